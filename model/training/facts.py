"""What the embedded model is taught to know: plain lists, no code."""

CAPITALS = tuple(
    tuple(line.split("="))
    for line in """France=Paris
Germany=Berlin
Italy=Rome
Spain=Madrid
Portugal=Lisbon
Greece=Athens
Austria=Vienna
Poland=Warsaw
Norway=Oslo
Sweden=Stockholm
Finland=Helsinki
Denmark=Copenhagen
Ireland=Dublin
Iceland=Reykjavik
Belgium=Brussels
the Netherlands=Amsterdam
Hungary=Budapest
Romania=Bucharest
Bulgaria=Sofia
Ukraine=Kiev
Russia=Moscow
Turkey=Ankara
Egypt=Cairo
Kenya=Nairobi
Morocco=Rabat
Ghana=Accra
Cuba=Havana
Peru=Lima
Chile=Santiago
Canada=Ottawa
Japan=Tokyo
China=Beijing
South Korea=Seoul
Thailand=Bangkok
Vietnam=Hanoi
India=New Delhi
Nepal=Kathmandu
Iran=Tehran
Iraq=Baghdad
Australia=Canberra
New Zealand=Wellington
Argentina=Buenos Aires
Venezuela=Caracas
Colombia=Bogota
the United States=Washington
England=London
Scotland=Edinburgh
Wales=Cardiff""".splitlines()
)

OPPOSITES = tuple(
    tuple(pair.split("/"))
    for pair in (
        "hot/cold big/small up/down left/right day/night black/white open/closed fast/slow happy/sad high/low long/short new/old "
        "young/old rich/poor hard/soft light/dark wet/dry full/empty early/late good/bad strong/weak thick/thin wide/narrow "
        "clean/dirty loud/quiet near/far true/false win/lose buy/sell begin/end love/hate push/pull laugh/cry always/never "
        "inside/outside above/below heavy/light sweet/sour smooth/rough"
    ).split()
    if pair not in ("young/old", "heavy/light")
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
Should I take the job?""".splitlines()
)
