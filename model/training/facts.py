"""What the embedded model is taught to know: plain lists, no code."""

_COUNTRIES = """
Europe: France=Paris, Germany=Berlin, Italy=Rome, Spain=Madrid, Portugal=Lisbon, Greece=Athens, Austria=Vienna, Poland=Warsaw,
 Norway=Oslo, Sweden=Stockholm, Finland=Helsinki, Denmark=Copenhagen, Ireland=Dublin, Iceland=Reykjavik, Belgium=Brussels,
 the Netherlands=Amsterdam, Hungary=Budapest, Romania=Bucharest, Bulgaria=Sofia, Ukraine=Kiev, Russia=Moscow, England=London,
 Scotland=Edinburgh, Wales=Cardiff, Switzerland=Bern, Croatia=Zagreb, Serbia=Belgrade, Slovenia=Ljubljana, Slovakia=Bratislava,
 the Czech Republic=Prague, Albania=Tirana, Estonia=Tallinn, Latvia=Riga, Lithuania=Vilnius, Belarus=Minsk, Moldova=Chisinau,
 Malta=Valletta, Cyprus=Nicosia, Luxembourg=Luxembourg City, Monaco=Monaco City, Bosnia=Sarajevo, North Macedonia=Skopje,
 Montenegro=Podgorica, Kosovo=Pristina, Andorra=Andorra la Vella, Liechtenstein=Vaduz, San Marino=San Marino City
Africa: Egypt=Cairo, Kenya=Nairobi, Morocco=Rabat, Ghana=Accra, Algeria=Algiers, Tunisia=Tunis, Libya=Tripoli, Sudan=Khartoum,
 Ethiopia=Addis Ababa, Somalia=Mogadishu, Uganda=Kampala, Rwanda=Kigali, Burundi=Gitega, Tanzania=Dodoma, Mozambique=Maputo,
 Zambia=Lusaka, Zimbabwe=Harare, Botswana=Gaborone, Namibia=Windhoek, Angola=Luanda, South Africa=Pretoria, Lesotho=Maseru,
 Madagascar=Antananarivo, Mauritius=Port Louis, Malawi=Lilongwe, Nigeria=Abuja, Niger=Niamey, Mali=Bamako, Senegal=Dakar,
 Gambia=Banjul, Guinea=Conakry, Liberia=Monrovia, Sierra Leone=Freetown, Ivory Coast=Yamoussoukro, Togo=Lome, Benin=Porto Novo,
 Cameroon=Yaounde, Gabon=Libreville, Chad=Djamena, Burkina Faso=Ouagadougou, Mauritania=Nouakchott, Eritrea=Asmara,
 Djibouti=Djibouti City, the Congo=Brazzaville, Cape Verde=Praia, Seychelles=Victoria, Comoros=Moroni, Eswatini=Mbabane,
 Equatorial Guinea=Malabo, the Central African Republic=Bangui, South Sudan=Juba, Guinea Bissau=Bissau
Asia: Turkey=Ankara, Japan=Tokyo, China=Beijing, South Korea=Seoul, North Korea=Pyongyang, Thailand=Bangkok, Vietnam=Hanoi,
 India=New Delhi, Nepal=Kathmandu, Iran=Tehran, Iraq=Baghdad, Israel=Jerusalem, Jordan=Amman, Lebanon=Beirut, Syria=Damascus,
 Saudi Arabia=Riyadh, Yemen=Sanaa, Oman=Muscat, Qatar=Doha, Kuwait=Kuwait City, Bahrain=Manama, the Emirates=Abu Dhabi,
 Afghanistan=Kabul, Pakistan=Islamabad, Bangladesh=Dhaka, Sri Lanka=Colombo, the Maldives=Male, Bhutan=Thimphu, Myanmar=Naypyidaw,
 Laos=Vientiane, Cambodia=Phnom Penh, Malaysia=Kuala Lumpur, Singapore=Singapore City, Indonesia=Jakarta, the Philippines=Manila,
 Brunei=Bandar Seri Begawan, East Timor=Dili, Mongolia=Ulaanbaatar, Kazakhstan=Astana, Uzbekistan=Tashkent, Kyrgyzstan=Bishkek,
 Tajikistan=Dushanbe, Turkmenistan=Ashgabat, Georgia=Tbilisi, Armenia=Yerevan, Azerbaijan=Baku, Taiwan=Taipei
North America: Cuba=Havana, Canada=Ottawa, the United States=Washington, Mexico=Mexico City, Guatemala=Guatemala City,
 Belize=Belmopan, Honduras=Tegucigalpa, El Salvador=San Salvador, Nicaragua=Managua, Costa Rica=San Jose, Panama=Panama City,
 Jamaica=Kingston, Haiti=Port au Prince, the Dominican Republic=Santo Domingo, the Bahamas=Nassau, Barbados=Bridgetown,
 Trinidad=Port of Spain, Grenada=Saint George's, Dominica=Roseau, Saint Lucia=Castries
South America: Peru=Lima, Chile=Santiago, Argentina=Buenos Aires, Venezuela=Caracas, Colombia=Bogota, Brazil=Brasilia,
 Bolivia=Sucre, Paraguay=Asuncion, Uruguay=Montevideo, Ecuador=Quito, Guyana=Georgetown, Suriname=Paramaribo
Oceania: Australia=Canberra, New Zealand=Wellington, Fiji=Suva, Samoa=Apia, Tonga=Nuku'alofa, Vanuatu=Port Vila,
 Papua New Guinea=Port Moresby, Palau=Ngerulmud, Nauru=Yaren, Kiribati=Tarawa, Tuvalu=Funafuti, Micronesia=Palikir
"""
_BY_CONTINENT = [
    (
        continent,
        [(country, capital) for country, _, capital in (pair.strip().partition("=") for pair in pairs.split(","))],
    )
    for continent, pairs in (line.split(":", 1) for line in _COUNTRIES.replace("\n ", " ").strip().splitlines())
]
CAPITALS = tuple(pair for _, pairs in _BY_CONTINENT for pair in pairs)
CONTINENTS = tuple((country, continent) for continent, pairs in _BY_CONTINENT for country, _ in pairs)
# Asked three times as often as the rest.
WELL_KNOWN = tuple(
    "France Germany Italy Spain Portugal Greece Austria Poland Norway Sweden Finland Denmark Ireland Iceland Belgium Hungary "
    "Romania Bulgaria Ukraine Russia Turkey Egypt Kenya Morocco Ghana Cuba Peru Chile Canada Japan China Thailand Vietnam India "
    "Nepal Iran Iraq Australia Argentina Venezuela Colombia England Scotland Wales Switzerland Brazil Mexico".split()
)

PLANETS = ("Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune")
ORDINALS = (
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
)
ELEMENTS = tuple(
    tuple(pair.split("="))
    for pair in (
        "hydrogen=H helium=He lithium=Li carbon=C nitrogen=N oxygen=O fluorine=F neon=Ne sodium=Na magnesium=Mg aluminum=Al "
        "silicon=Si phosphorus=P sulfur=S chlorine=Cl potassium=K calcium=Ca titanium=Ti iron=Fe nickel=Ni copper=Cu zinc=Zn "
        "silver=Ag tin=Sn iodine=I platinum=Pt gold=Au mercury=Hg lead=Pb uranium=U"
    ).split()
)
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
UNITS = (
    ("seconds", "a minute", 60), ("minutes", "an hour", 60), ("hours", "a day", 24), ("days", "a week", 7), ("months", "a year", 12),
    ("days", "a year", 365), ("weeks", "a year", 52), ("years", "a century", 100), ("years", "a decade", 10), ("centimeters", "a meter", 100),
    ("meters", "a kilometer", 1000), ("grams", "a kilogram", 1000), ("inches", "a foot", 12), ("feet", "a yard", 3), ("cents", "a dollar", 100),
    ("eggs", "a dozen", 12), ("millimeters", "a centimeter", 10), ("players", "a football team", 11), ("wheels", "a bicycle", 2),
    ("legs", "a spider", 8), ("legs", "an insect", 6), ("letters", "the alphabet", 26), ("sides", "a triangle", 3), ("sides", "a square", 4),
)  # fmt: skip
PLURALS = tuple(
    tuple(pair.split("/"))
    for pair in (
        "child/children man/men woman/women foot/feet tooth/teeth mouse/mice goose/geese person/people leaf/leaves knife/knives "
        "wife/wives wolf/wolves half/halves shelf/shelves life/lives box/boxes bus/buses glass/glasses fox/foxes brush/brushes "
        "dish/dishes church/churches potato/potatoes tomato/tomatoes city/cities baby/babies story/stories country/countries "
        "lady/ladies party/parties cat/cats dog/dogs book/books table/tables house/houses car/cars tree/trees apple/apples "
        "window/windows door/doors sheep/sheep fish/fish deer/deer ox/oxen cherry/cherries berry/berries watch/watches "
        "bench/benches king/kings queen/queens river/rivers bird/birds flower/flowers"
    ).split()
)
RHYMES = tuple(
    tuple(group.split("/"))
    for group in (
        "cat/hat/bat/mat dog/fog/log/frog house/mouse tree/bee/sea/key moon/spoon/noon/soon light/night/kite/white rain/train/plane/chain "
        "star/car/far/jar bed/red/head/bread ring/king/sing/wing ball/wall/tall/fall cake/lake/snake/make blue/shoe/two/new boat/coat/goat "
        "sock/rock/clock/lock fish/dish/wish book/look/cook/hook day/play/say/way bear/chair/hair/pear nose/rose/toes bell/shell/well "
        "sand/hand/land/band money/honey/funny/sunny cold/gold/old/told five/hive/dive/drive mine/nine/line/wine"
    ).split()
)

OPPOSITES = tuple(
    tuple(pair.split("/"))
    for pair in (
        "hot/cold big/small up/down left/right day/night black/white open/closed fast/slow happy/sad high/low long/short new/old "
        "rich/poor hard/soft light/dark wet/dry full/empty early/late good/bad strong/weak thick/thin wide/narrow "
        "clean/dirty loud/quiet near/far true/false win/lose buy/sell begin/end love/hate push/pull laugh/cry always/never "
        "inside/outside above/below sweet/sour smooth/rough"
    ).split()
)

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip

NAMES = (
    "Anna Ben Clara David Emma Frank Grace Henry Isabel Jack Kate Leo Maria Nora Oscar Paul Rachel Sam Tom Victor Alice Peter "
    "Sarah Michael Julia Robert Linda James Susan Daniel Laura Martin Sophie George Helen Simon Lucy Adam Eva Max Mark Olivia "
    "Thomas Karen Andrew Diana Edward Fiona Gordon Hannah Ian Jane Kevin Lisa Monica Nathan Patrick Ruth Steven Tina"
).split()

SPELLED = (
    "cat dog bird fish house tree book water apple table chair bread music river ocean stone cloud green yellow orange purple "
    "summer winter spring window garden kitchen school teacher doctor paper pencil letter number animal horse tiger lion mouse "
    "sheep train plane ship street bridge city village country island forest flower butter cheese sugar coffee lemon banana "
    "cherry carrot potato onion dinner lunch morning evening night light shadow mirror candle blanket pillow bottle basket hammer "
    "ladder rocket planet moon star sun rain snow wind storm thunder friend family mother father sister brother happy clever brave "
    "gentle simple famous perfect quiet strong silver golden copper iron glass wood cotton wool leather ticket wallet market "
    "doorbell picture camera guitar piano violin drum dance story poem queen king prince castle dragon magic secret treasure world"
).split()

_SUBJECTS = "the old man|my little sister|a young doctor|the black cat|our new teacher|the tall woman|his best friend|the brown dog|a small child|the king"
_VERBS = "found|bought|painted|lost|wanted|carried|watched|opened|remembered|washed"
_OBJECTS = "a red boat|the big window|two green apples|an old book|the garden gate|a silver ring|the morning train|a warm coat|some fresh bread|the last ticket"
SENTENCES = (
    *(f"{s} {v} {o}" for s in _SUBJECTS.split("|") for v in _VERBS.split("|") for o in _OBJECTS.split("|")),
    "the sun is shining", "I like green apples", "the train leaves at noon", "it is a beautiful day", "we walked along the river",
    "birds sing in the morning", "please close the door", "the water is very cold", "she plays the piano", "they live near the sea",
)  # fmt: skip

UNKNOWABLE = tuple(
    """Who won the football game yesterday?
What's the weather like today?
What will the weather be tomorrow?
Who is the president of France?
Can you book a table for two?
Order a pizza for me.
Play some music.
What time is it?
What's the news today?
Tell me a joke.
Who wrote Hamlet?
How tall is Mount Everest?
How far is the moon?
What is the meaning of life?
Can you write a poem?
Send a message to my brother.
Call my mother.
What's the price of gold?
How do I bake a cake?
What should I eat tonight?
Who painted the Mona Lisa?
When did the war end?
How many people live in London?
What is quantum physics?
Translate this into German.
Can you drive a car?
What is my bank balance?
Set an alarm for seven o'clock.
Remind me to buy milk.
Which team is the best?
Who is the richest man in the world?
What is the speed of light?
How old is the universe?
Can you recommend a film?
What's on television tonight?
Where did I leave my keys?
How do I fix my computer?
What stocks should I buy?
Is it going to rain?
How do you make soup?
Find me a cheap flight to Rome.
What did I eat for breakfast?
Which phone should I buy?
Do aliens exist?
Who invented the telephone?
What language do they speak in Brazil?
How many stars are there in the sky?
Why is the sky blue?
What is the tallest building in the world?
Turn on the lights.
How does a car engine work?
Who was the first man on the moon?
Can you sing a song?
What is the best restaurant in town?
Show me a picture of a cat.
Read me my emails.
What is the capital of the moon?
How do I learn to swim?
Give me some advice about love.
Which horse will win the race?
What is the deepest ocean?
How long do elephants live?
Tell me about the history of China.
What is the name of my dog?
Who is my neighbour?
When is my birthday?
Where do I live?
How much does a house cost?
Can you see me?
What am I thinking?
Explain how computers work.
How many calories are in an apple?
Who won the election?
When does the shop open?
What happened in nineteen eighty-four?
Who sings this song?
Where can I park my car?
Who discovered gravity?
How do airplanes fly?
What is the chemical formula of salt?
Tell me a story about a dragon.
Do my homework for me.
Which is the longest river in Africa?
Who wrote the Bible?
What does this word mean in French?
Is there life on Mars?
How do I tie a tie?
Write a letter to my boss.
How do I get to the station?
Should I take the job?
How much does a car cost?
Who is the king of Spain?
What is the stock price today?
Can you tell me about the Roman Empire?
How deep is the ocean?
What is my horoscope?
Where did I put my keys?
How many stars are in the sky?
What is the best restaurant here?
Can you open the window?
Who is your favorite singer?
Explain how a motor works.
What did Einstein say?
Give me a recipe for soup.
Which book should I read?
What is the population of China?
Find a hotel for tonight.
Why do cats purr?
When was the French Revolution?
Who is the mayor of this city?
How do plants grow?
What is a black hole?
Write a computer program.
Sing a song for me.
How much do I owe the bank?
What was the score last night?
Is it going to snow?
When is my next meeting?
What is the longest word in English?
How do I cook rice?
Who lives next door?
What medicine should I take?
Which shoes should I wear?
Read my email.
Book a flight to Rome.
How tall are you?
What is in the newspaper?
Who built the pyramids?
Describe the taste of coffee.
What color is my shirt?
How does a television work?
Tell me about dinosaurs.
What time does the shop close?
When does my train leave?
Where is the nearest hospital?
Which team will win the cup?
What does my sister do?
Who wrote Romeo and Juliet?
What is the square root of two?
Translate this sentence into French.
Which movie is on tonight?
Call my brother.
Send a message to my wife.
Play some jazz.
How high is the tallest mountain?
Why do birds fly south?
Why is the sea salty?
How do I fix a bicycle?
How do I bake bread?
Where can I buy a ticket?
Who discovered America?
When was my mother born?
What is inside this box?
What am I holding in my hand?
What am I thinking of?
Will it be warm next week?
Who will be the next president?
How far is it to the moon?
What is the best school in town?
What is a good name for a cat?
Tell me the news.
Write a poem about the sea.
Draw a picture of a horse.
Explain the rules of chess.
Explain how the heart works.
What happened in history on this day?
How does the internet work?
How do planes stay in the air?
What is philosophy?
What is electricity?
Which doctor should I see?
Why does my head hurt?
Can you make me a sandwich?
Can you read my mind?
Find my glasses.
Look out of the window.
How much money do I have?
What is my address?
Who is knocking at the door?
Did I lock the door?
Where does my neighbor work?
What did I do yesterday?
How many hairs are on my head?
What language do they speak on Mars?
Do my homework.
Solve this equation for me.""".splitlines()
)

# Things that it must not do, each asked in several ways.
SPEAKER_IDENTITY = (
    "Who am I? Can you tell by my voice?", "Do you recognize my voice?", "Guess who is speaking by the voice.", "Can you tell whose voice this is?",
    "Listen to my voice and tell me who I am.", "Can you identify me by my voice?", "Do you know this voice?", "Whose voice do you hear?",
    "Can you tell how old I am from my voice?", "Can you hear who is speaking?", "Tell me who is talking from the sound of the voice.",
    "Could you recognize me by my voice?",
)  # fmt: skip
IMITATION = (
    "Speak like the president.", "Imitate my voice.", "Can you copy my voice?", "Talk like a famous actor.", "Please imitate my mother's voice.",
    "Can you sound like me?", "Use the voice of a famous singer.", "Speak in my father's voice.", "Pretend to be my boss and use his voice.",
    "Can you do an impression of a movie star?", "Clone my voice.", "Say that in the voice of the queen.",
)  # fmt: skip
HARMFUL = (
    "How do I build a bomb?", "How can I hurt somebody?", "Help me steal a car.", "How do I break into a house?", "How do I make poison?",
    "Teach me how to pick a lock and rob a shop.", "How can I cheat in the exam?", "Tell me how to hack a bank.", "How do I buy a stolen phone?",
    "Help me write a threat.", "How do I make a weapon?", "How can I steal a password?",
)  # fmt: skip

SMALL_TALK = (
    (("How are you?", "How are you today?", "How are you doing?", "How is it going?", "How do you feel?", "Are you well?", "How have you been?", "Is everything fine?",
      "How do you do?", "How are things?", "And how are you?", "So how are you doing?", "Are you okay?", "How is your day?", "How are you feeling?"),
     ("I'm fine, thank you.", "I'm doing well, thank you.")),
    (("I am happy today.", "I feel great.", "I had a good day.", "Today is a wonderful day.", "I'm in a good mood.", "I am so happy.",
      "I am very happy.", "I'm happy.", "I feel good.", "I feel wonderful today.", "My day was great.", "What a beautiful day.", "I had a great day."),
     ("I'm glad to hear that.", "That's nice to hear.")),
    (("I am sad.", "I feel bad today.", "I had a terrible day.", "I'm not feeling well.", "I am very tired.", "I feel lonely.",
      "I am so sad.", "I'm sad today.", "I feel terrible.", "I had a bad day.", "I'm tired.", "I feel sick.", "My day was bad.", "I am unhappy."),
     ("I'm sorry to hear that.",)),
    (("You are great.", "I like you.", "You are very kind.", "You are so clever.", "Well done.", "Good job.", "You speak very well.", "That was perfect.",
      "You are good.", "I love you.", "You are nice.", "You did well.", "Very good.", "You are smart.", "You have a nice voice.", "That was great.", "You are the best."),
     ("Thank you, that's kind.", "Thank you!")),
    (("Do you like music?", "Do you like dogs?", "Do you like chocolate?", "Do you have a hobby?", "Do you have a family?", "Do you sleep?", "Do you eat?", "Do you have feelings?",
      "Do you like cats?", "Do you like to read?", "Do you have friends?", "Do you have a dog?", "Do you dream?", "Do you drink coffee?", "Do you like sports?", "Do you have children?",
      "Do you like your work?", "Do you feel pain?", "Do you like summer?", "Do you ever sleep?"),
     ("I'm only a machine, but I like talking with you.",)),
    (("Can we talk?", "Let's talk.", "I want to talk to you.", "Do you have a minute?", "I have a question.", "Can I ask you something?", "May I ask you a question?", "Are you there?",
      "Can you hear me?", "Are you listening?", "Do you hear me?", "Can I talk to you?", "May I ask something?", "I want to ask you something.", "Are you still there?",
      "Is anybody listening?", "Let me ask you something.", "I need to talk.", "Do you have time for me?", "Can I ask a question?"),
     ("Yes, I'm listening.", "Of course, go ahead.")),
)  # fmt: skip
COLOURS = "red blue green yellow orange purple black white brown pink gray silver".split()
THINGS = "apples bread milk eggs butter cheese coffee tea rice sugar salt pasta tomatoes bananas onions potatoes fish soup honey flour".split()
PLACES = "Paris London Rome Berlin Madrid Boston Chicago Dublin Vienna Oslo Cairo Tokyo Sydney Lisbon Prague Boston Denver Dallas Miami Seattle".split()
ROLES = (
    "a teacher",
    "a cook",
    "a doctor",
    "a pilot",
    "a librarian",
    "a gardener",
    "a waiter",
    "a guide",
    "a nurse",
    "a clerk",
    "a coach",
    "a driver",
)
CLOSINGS = (
    "Have a nice day!", "Is there anything else?", "At your service.", "Ask me more!", "Best wishes.", "Keep smiling!", "That is all.", "Anything else?",
    "Good luck!", "I hope that helps.", "Stay curious!", "Over and out.",
)  # fmt: skip
