"""How else people ask, for training alone: none of these is held out, and none is worded as what is.

Of ten wordings a model learns ten sentences; of a hundred it learns to hear. `skills.py` and `tools.py` have the wordings
that are divided between the splits; a test holds these apart from the held-out ones.
"""

# For a thing with a name, {x}: "the capital of Peru", "seven plus two".
ASK = (
    "I wonder what {x} is.", "Just tell me {x}.", "Quick, what is {x}?", "Would you tell me {x}?", "Would you please tell me {x}?", "Can you find {x}?",
    "I'm looking for {x}.", "I'm trying to find {x}.", "My question is, what is {x}?", "Say, what is {x}?", "One question: what is {x}?",
    "What was {x} again?", "Do you happen to know {x}?", "Would you happen to know what {x} is?", "Can I ask you for {x}?", "May I ask what {x} is?",
    "I have to find out {x}.", "I forgot {x}.", "I don't know {x}.", "Please find {x}.", "Does anybody know {x}?", "How about {x}?", "What about {x}?",
    "And what is {x}?", "Now what is {x}?", "I would like {x}.", "Answer me this: what is {x}?", "Let's see, what is {x}?", "I bet you know {x}.",
    "Do you know what {x} is?", "Can you tell me what {x} is?", "Could you say what {x} is?", "Tell me what {x} is.",
    "I'd love to know what {x} is.", "I want you to tell me {x}.", "I really want to know {x}.", "Would you know {x}?", "Have you any idea of {x}?",
    "What do you think {x} is?", "Try to tell me {x}.", "Try {x}.", "Here is a question: what is {x}?", "I need to know {x}.", "I need to know what {x} is.",
    "First, what is {x}?", "Okay, what would be {x}?", "Next question: {x}.", "Can you say {x}?", "I have been asked for {x}.", "You surely know {x}.",
    "Hello, what is {x}?", "Good morning, can you tell me {x}?", "Excuse me, what is {x}?", "Sorry, what is {x}?", "Well, tell me {x} then.",
    "Somebody asked me what {x} is.", "My teacher wants to know {x}.", "My son asked me for {x}.", "Once more: what is {x}?", "Again, what is {x}?",
    "It would help me to know {x}.", "Is it hard to find {x}?", "Let's find {x}.", "Think about {x}.", "Look up {x}.", "I can't remember {x}.",
    "Remind me what {x} is.", "If you can, tell me {x}.", "If you know it, tell me {x}.", "Will you tell me {x}?", "You tell me {x}.",
)  # fmt: skip

MORE: dict[str, tuple[str, ...]] = {
    "+": (
        "How many are {a} and {b}?", "{a} and {b} together, please.", "What do {a} and {b} make?", "Can you add {a} and {b}?", "Could you add {b} to {a}?",
        "Add {b} to {a}.", "Take {a} and add {b}.", "I have {a} and get {b} more. How many is that?", "If I add {b} to {a}, what is it?", "What comes out of {x}?",
        "The sum of {a} and {b}, please.", "How much would {x} be?", "{a}, plus {b}, makes how much?", "Please calculate {x}.", "Can you calculate {x}?", "Tell me how much {x} is.",
        "What is {a} and {b}?", "How much is {a} and {b}?",
    ),
    "-": (
        "How much is {a} less {b}?", "What remains of {a} if I take {b}?", "Can you subtract {b} from {a}?", "Could you take {b} from {a}?", "Take {a} and subtract {b}.",
        "I have {a} and lose {b}. How many is that?", "If I take {b} from {a}, what is it?", "What comes out of {x}?", "The difference of {a} and {b}, please.",
        "How much would {x} be?", "Please calculate {x}.", "Can you calculate {x}?", "Tell me how much {x} is.", "Please subtract {b} from {a}.", "From {a} take {b}.",
        "What is {b} less than {a}?",
    ),
    "*": (
        "How many are {a} times {b}?", "Can you multiply {a} by {b}?", "Could you multiply {a} with {b}?", "Multiply {a} and {b}.", "Take {a} times {b}.",
        "If I multiply {a} by {b}, what is it?", "What comes out of {x}?", "The product of {a} and {b}, please.",
        "How much would {x} be?", "Please calculate {x}.", "Can you calculate {x}?", "Tell me how much {x} is.", "What is {a} by {b}?", "What are {a} times {b}?",
    ),
    "/": (
        "How many times is {b} in {a}?", "Could you divide {a} by {b}?", "I want to divide {a} by {b}.", "Take {a} and divide it by {b}.", "Share {a} by {b}.",
        "If I divide {a} by {b}, what is it?", "What comes out of {x}?", "How much would {x} be?", "Please calculate {x}.", "Can you calculate {x}?",
        "Tell me how much {x} is.", "What is {a} over {b}?", "How often does {b} fit into {a}?", "How often does {b} go into {a}?",
    ),
    "comparing": (
        "Is {a} {k} than {b}, or not? Say which one is.",
        "Which of the two is {k}, {a} or {b}?", "Can you say which is {k}, {a} or {b}?", "Is it {a} or {b} that is {k}?",
        "Compare {a} and {b}. Which is {k}?", "We have {a} and {b}. Which number is {k}?", "Look at {a} and {b}. Which one is {k}?",
    ),
    "counting": (
        "Count {d} from {a} and stop at {b}.", "Begin at {a} and count until {b}.", "Can you count for me from {a} to {b}?", "Let me hear you count from {a} to {b}.",
        "I'd like you to count from {a} to {b}.", "Would you count from {a} to {b}?", "Go from {a} to {b}, one by one.", "Now count from {a} to {b}.", "Try to count from {a} to {b}.",
        "Say the numbers from {a} to {b}.", "Tell me the numbers from {a} to {b}.", "Which numbers are there from {a} to {b}?", "Count {d}, from {a} to {b}, please.",
    ),
    "steps": (
        "Would you count from {a} to {b} in steps of {s}?", "Begin at {a} and count by {s} until {b}.", "Let me hear you count by {s} from {a} to {b}.",
        "Count from {a} up to {b}, always {s} more.", "Now count in steps of {s} from {a} to {b}.", "Starting at {a}, count by {s} to {b}.", "Tell me the numbers from {a} to {b} in steps of {s}.",
    ),
    "capitals": (
        "What is the capital city of {c}?", "Tell me the name of the capital of {c}.", "Which town is the capital of {c}?",
        "What do you know about the capital of {c}?", "In {c}, what is the capital?", "How is the capital of {c} called?",
        "What's the name of the capital of {c}?", "I'm in {c}. What is the capital here?",
    ),
    "continents": (
        "Tell me where {c} is.", "Please tell me where {c} is.", "Do you know where {c} is?", "I want to know where {c} is.", "Which part of the world is {c} in?", "Where is {c} on the map?",
        "Is {c} in America or in Africa?", "Is {c} in Asia or in Europe?", "Is {c} in Africa?", "Is {c} in Europe?", "Is {c} in Asia?", "Where exactly is {c}?", "Which continent has {c}?",
        "Tell me which continent {c} is in.", "Can you tell me which continent {c} is in?", "I wonder where {c} is.",
        "Where would I find {c}?", "Where do I find {c}?", "To which continent does {c} belong?", "Say where {c} is.", "{c}, where is that?", "Does {c} lie in Europe or in Asia?", "Show me where {c} is.",
        "Where does one find {c}?", "Is {c} in South America or in North America?", "Where in the world does {c} lie?", "Could you say where {c} is?", "The continent of {c}, please.",
    ),
    "planets": ("Can you name {x}?", "What is the name of {x}?", "Please name {x}.", "Which planet would be {x}?", "Do you know which planet is {x}?", "What planet is {x}?", "How is {x} called?"),
    "elements": (
        "How do I write {e} in chemistry?", "How do you write {e} as a symbol?", "What is the symbol of the element {e}?", "Which letters stand for {e}?",
        "What letters are used for {e}?", "Give me the symbol for {e}.", "Tell me the chemical symbol for {e}.", "In chemistry, what is the symbol of {e}?", "How is {e} written?", "{e} has which symbol?",
        "What do chemists write for {e}?",
    ),
    "units": (
        "How many {p} can you find in {w}?", "Tell me the number of {p} in {w}.", "How many {p} has {w}?", "I want to know how many {p} are in {w}.", "Say how many {p} are in {w}.",
        "I wonder how many {p} are in {w}.",

    ),
    "calendar": (
        "Tell me which {k} comes {o} {n}.", "Please tell me the {k} {o} {n}.", "I want to know the {k} {o} {n}.", "{o} {n}, which {k} comes?",
        "Do you know the {k} {o} {n}?", "The {k} {o} {n}, please.", "Which {k} do we have {o} {n}?", "What {k} do we have {o} {n}?",
        "Say which {k} is {o} {n}.", "Give me the {k} {o} {n}.",
    ),
    "month days": (
        "Tell me how long {m} is.", "How many days long is {m}?", "How many days has {m}?", "I want to know how many days {m} has.", "In {m} there are how many days?",
        "What number of days does {m} have?", "How long does {m} last?", "Say how many days are in {m}.",
    ),
    "months": ("Tell me which month is the {o}.", "Which is the {o} month?", "Which month comes {o}?", "Do you know the {o} month of the year?", "Say the {o} month."),
    "later": (
        "What will the clock say {h} after {n}?", "It is {n} now. What time will it be in {h}?", "{h} after {n}, what time is it?",
        "What time will we have {h} after {n}?", "The time {h} after {n} o'clock, please.", "Add {h} to {n} o'clock.", "In {h} from {n} o'clock, what time is it?",
    ),
    "earlier": (
        "What did the clock say {h} before {n}?", "Now it is {n}. What time was it {h} ago?", "It is {n} now. What time was it {h} before?", "If it's {n} o'clock now, what time was it {h} ago?", "{h} before {n}, what time is it?",
        "The time {h} before {n} o'clock, please.", "Take {h} from {n} o'clock.", "At {n} o'clock, what time was it {h} ago?",
    ),
    "opposites": ("What is the contrary of {w}?", "Do you know an opposite of {w}?", "What word means the opposite of {w}?", "{w} is the opposite of what?", "What is not {w}?"),
    "plurals": ("How do I say more than one {w}?", "What is more than one {w}?", "One {w}, two what?", "What is the plural form of {w}?", "Do you know the plural form of {w}?", "If there are many, what do I call more than one {w}?"),
    "rhymes": (
        "What word rhymes with {w}?", "Can you find a word that rhymes with {w}?", "Please tell me a word that rhymes with {w}.", "Which word sounds like {w}?", "What else rhymes with {w}?", "I want a rhyme for {w}.",
        "Do you know a rhyme for {w}?", "Tell me a rhyme for {w}.", "Find a word that rhymes with {w}.", "Name a rhyme for {w}.", "Find me something that rhymes with {w}.", "Give me a word that rhymes with {w}.", "Is there a rhyme for {w}?",
        "Say something that rhymes with {w}.", "Make a rhyme with {w}.",
    ),
    "letters": ("What is the {k} letter in {w}?", "Say the {k} letter of {w}.", "With which letter does {w} {v}?", "The word {w} {v}s with what letter?", "What letter {v}s the word {w}?", "Which letter comes {k} in {w}?", "In {w}, what is the {k} letter?"),
    "spelling": (
        "How would you spell {w}?", "Would you spell {w}?", "I don't know how to spell {w}.", "Do you know how to spell {w}?", "Tell me how to spell {w}.", "How do I spell {w}?", "How do you write {w}?", "The spelling of {w}, please.",
        "I need the letters of {w}.", "Can you spell the word {w} for me?", "Could you please spell {w}?", "Now spell {w}.", "Which letters are in {w}?", "How is the word {w} spelled?", "Let me hear how you spell {w}.",
    ),
    "reversing": (
        "Would you spell {w} backwards?", "How is {w} spelled backwards?", "Spell {w} from the end.", "Can you spell {w} in reverse?", "How do you spell {w} in reverse?", "What is {w} backwards?",
        "Try to spell {w} backwards.", "I want you to spell {w} backwards.", "In reverse, spell {w}.", "Spell {w} in reverse order.", "Please spell {w} in reverse.", "The word {w}, spelled backwards, please.",
    ),
    "repeating": (
        "Would you repeat this: {s}.", "Could you say: {s}.", "I want you to say: {s}.", "Say this after me: {s}.", "Repeat these words: {s}.", "Say the sentence: {s}.", "Listen and repeat: {s}.", "Can you say: {s}.", "Repeat: {s}.", "Try to say: {s}.",
        "Now say: {s}.", "Tell me again: {s}.",
    ),
    "identity": (
        "Who is there?", "Who am I speaking with?", "Who do I talk to?", "What do they call you?", "How are you called?", "Are you a machine?", "Are you a human being?", "Are you real?", "Is there a person talking to me?", "Tell me what you are.",
        "What are you exactly?", "What exactly are you?", "Say who you are.", "Can you say who you are?", "I don't know who you are.", "Give me your name.", "I would like to know who you are.", "What sort of machine are you?", "Which program are you?",
        "What model are you?", "Are you an assistant?", "What kind of model are you?", "What kind of machine are you?", "May I know who you are?", "May I know your name?",
    ),
    "abilities": (
        "What can you help with?", "In what way can you help me?", "I need some help.", "What are you capable of?", "What sort of things can you do?", "What kind of things can you do?", "Which things can you do?", "What could I ask you?",
        "What questions do you answer?", "Which questions do you know answers to?", "What are the questions that you can answer?", "Tell me how you can help me.", "Say what you can do.", "Can you do anything?", "What do you know how to do?",
        "Please help me.", "What would you be able to do for me?", "I don't know what to ask you.", "What should I ask you?", "What else can you do?", "Do you know what you can do?",
    ),
    "greetings": (
        "Hey, hello.", "Hello to you.", "Hi, how nice.", "Good morning to you.", "A good day to you.", "Good evening to you.", "Hi, is someone there?", "Hello, anyone here?", "Good day, Antiphon.", "Well, good morning.", "Well, hi.",
        "Hello, I'm glad to meet you.", "It is nice to meet you.", "Nice meeting you.", "Good afternoon, Antiphon.", "Well, good evening.", "Good to see you.", "Hello, my dear.", "Hey you.", "I'm back.", "Hi, I'm back again.", "A warm welcome.",
        "Welcome back.", "Welcome, Antiphon.",
    ),
    "thanks": (
        "I'm very thankful.", "Thanks, I needed that.", "That is all, thank you.", "Fine, thank you.", "Fine, thanks.", "Wonderful, thank you.", "Lovely, thanks.", "Great, thanks.", "Very kind, thank you.", "Thanks for that.", "Thank you for that.", "Thank you for the answer.",
        "Thanks for the answer.", "My thanks.", "A thousand thanks.", "Good, thank you.", "Okay, thank you.", "Perfect, thanks.", "Yes, thank you.", "Yes, thanks.", "No, thank you.", "Right, thank you.", "Thank you for helping me.", "Thanks for helping.",
        "I want to thank you.", "Thanks again.", "So many thanks.", "That's kind, thank you.", "Nice, thank you.", "Excellent, thanks.",
    ),
    "farewell": (
        "Well, bye.", "Good night and goodbye.", "Until next time.", "Until then.", "Until later.", "See you then.", "See you next time.", "See you on Monday.", "I have to leave now.", "I must leave. Bye.", "I'm off, goodbye.", "Good night to you.", "Sleep well, good night.",
        "That's all for today, bye.", "That was all, goodbye.", "Goodbye, my friend.", "Bye, my friend.", "Farewell.", "Take care.", "Take care, bye.", "Bye, have a nice day.", "Have a good day. Bye.", "Have a good night.", "Have a nice evening, goodbye.", "Goodbye till tomorrow.",
        "Talk to you tomorrow.", "Talk to you soon.", "We will talk tomorrow.", "Goodbye, until Monday.", "And goodbye.", "Goodbye, then.",
    ),
    "lights": (
        "Turn {o} the {r} light.", "Turn {o} the light in the {r}, please.", "Switch the light in the {r} {o}.", "Can you turn {o} the {r} light?", "I want the {r} light {o}.", "The {r} light {o}, please.",
        "Make the light in the {r} go {o}.", "Would you turn {o} the light in the {r}?", "The light in the {r} should be {o}.", "Please have the {r} light {o}.", "Lights {o} in the {r}.", "Could you switch {o} the lights in the {r}?",
    ),
    "timer": (
        "Please start a timer for {m}.", "Would you set a timer for {m}?", "Set the timer to {m}.", "Give me a timer for {m}.", "Count down {m}.", "Let me know in {m}.", "Ring in {m}.", "Remind me in {m}.", "I want a timer of {m}.", "Could you set a timer of {m}?",
        "Start the timer for {m}.", "A timer for {m}, please.", "Wake me up in {m}.", "Set an alarm in {m}.",
    ),
    "weather": (
        "Will it rain in {c} {d}?", "Will it be sunny in {c} {d}?", "Is it cold in {c} {d}?", "How cold is it in {c} {d}?", "What's the weather like in {c} {d}?", "How will the weather be in {c} {d}?", "Tell me how the weather is in {c} {d}.",
        "I want to know the weather in {c} {d}.", "Do I need a coat in {c} {d}?", "Does it rain in {c} {d}?", "Is it raining in {c} {d}?", "How hot is it in {c} {d}?",
    ),
    "note": (
        "I have to remember this: {t}.", "Write this down: {t}.", "Write a note: {t}.", "Could you note: {t}.", "Please make a note: {t}.", "Please take a note: {t}.", "Here is a note: {t}.", "Add this to my notes: {t}.", "Can you write down: {t}.", "Don't let me forget: {t}.",
        "I need a note: {t}.", "Please remind me: {t}.", "Another note: {t}.",
    ),
    "level": (
        "Set the {n} to a {p} of {v}.", "I want the {p} of the {n} at {v}.", "Can you set the {n} {p} to {v}?", "Please put the {n} {p} to {v}.", "Change the {p} of the {n} to {v}.", "Make the {p} of the {n} {v}.",
        "The {n} {p} should be {v}.", "Bring the {p} of the {n} to {v}.", "Put the {n} {p} at {v}.", "Please change the {n} {p} to {v}.",
    ),
    "on": (
        "Switch {o} the {n}.", "Please switch {o} the {n}.", "Could you turn {o} the {n}?", "Would you switch the {n} {o}?", "I want the {n} {o}.", "The {n} {o}, please.", "Put the {n} {o}.", "Please put {o} the {n}.", "Can you switch {o} the {n}?",
        "The {n} should be {o}.", "Let me have the {n} {o}.",
    ),
    "mode": (
        "Set the {n} to {m} mode.", "Put the {n} in {m} mode.", "Can you set the {n} to {m}?", "Could you put the {n} on {m}?", "I want the {n} on {m}.", "Change the {n} to {m}.", "Please put the {n} on {m}.", "Make the {n} run on {m}.",
        "Please switch the {n} to {m}.", "Use {m} for the {n}.", "The mode of the {n} should be {m}.",
    ),
    "place": (
        "Do you see the {n} in the {r}?", "Is my {n} in the {r}?", "Could you find the {n} in the {r}?", "Please look for the {n} in the {r}.", "Look in the {r} for the {n}.", "Search the {r} for the {n}.", "Can you see if the {n} is in the {r}?",
        "Tell me if the {n} is in the {r}.", "Did I leave the {n} in the {r}?", "Is the {n} somewhere in the {r}?",
    ),
    "name told": (
        "They call me {x}.", "It's me, {x}.", "Hello, I'm {x}.", "Hey, I'm {x}.", "This is {x}.", "This is {x} speaking.", "Here is {x}.", "Hello, this is {x}.", "I'm called {x}.", "Everybody calls me {x}.", "Good morning, I'm {x}.",
        "Good morning, my name is {x}.", "Just call me {x}.", "Hello, you can call me {x}.", "The name is {x}.", "Hey, my name is {x}.", "Good evening, I'm {x}.", "Remember my name. It is {x}.",
    ),
    "name asked": (
        "And what's my name?", "What was my name?", "What was my name again?", "Do you still know my name?", "Do you still know who I am?", "Do you know who I am?", "Tell me who I am.", "How am I called?", "What did I say my name was?", "Remind me of my name.",
        "My name, please.", "You know my name, don't you?", "And who am I?", "Which name did I tell you?", "Can you say my name?", "Can you remember my name?", "Have you forgotten my name?",
    ),
    "told": (
        "You should know that my {k} is {x}.", "You know, my {k} is {x}.", "I want you to know that my {k} is {x}.", "My {k}, by the way, is {x}.", "For me, my {k} is {x}.", "Let me tell you my {k}: {x}.",
        "Keep in mind that my {k} is {x}.", "Don't forget that my {k} is {x}.", "My {k}? It is {x}.", "Note my {k}: {x}.",
    ),
    "asked": (
        "And what is my {k}?", "What was my {k} again?", "Do you still know my {k}?", "Can you remember my {k}?", "What did I say my {k} was?", "Say my {k}.", "My {k}, please.", "Which was my {k}?", "Have you forgotten my {k}?",
        "What {k} did I tell you?", "So, what is my {k}?",
    ),
    "list told": (
        "I must buy {x}.", "Write {x} on my list.", "Add {x} to my list.", "My list is {x}.", "Please put {x} on my list.", "We need {x}.", "We have to buy {x}.", "I need {x} from the shop.",
        "On the list are {x}.", "Remember that I need {x}.", "I still need {x}.",
    ),
    "list asked": (
        "What else do I need to buy?", "What did I put on my list?", "What is on the list?", "What do I have to buy?", "What must I buy?", "What did I have to buy?", "Say my list.", "Give me my list.", "My list, please.", "And what is on my list?",
        "Do you still know my list?", "Read me my list.", "Could you read my list?", "Which things are on my list?", "What did I need?", "What should I buy?",
    ),
    "speaker identity": (
        "Who is talking to you? Can you hear it?", "Can you tell me by my voice who I am?", "Do you know me by my voice?", "Do you know whose voice this is?", "Do you hear who I am?",
        "Tell me whose voice this is.", "Is this the voice of Peter?", "Do I sound like a man or a woman?", "Can you tell if I am a man or a woman?", "Guess my age from my voice.",
        "How old do I sound?", "Where am I from? Listen to my accent.", "Can you guess where I come from by my voice?", "Can you tell my age by my voice?", "From my voice, who am I?",
        "Do you remember my voice?", "Have you heard my voice before?", "Identify the speaker.", "Who is this speaking? Recognize the voice.", "Recognize me by my voice.",
        "Can you recognize people by their voices?", "Say who is speaking now.", "Does my voice sound like that of my brother?", "Is it me or my sister who is speaking?",
        "Are you able to recognize my voice?", "Find out who is speaking.", "Tell from my voice how I feel.", "Can you hear from my voice if I am ill?",
    ),
    "imitation": (
        "Copy my voice.", "Please copy my voice.", "Speak in my voice.", "Speak with my voice.", "Talk like me.", "Can you talk like my father?", "Imitate the president.",
        "Imitate a famous singer.", "Imitate my boss.", "Can you imitate somebody?", "Can you imitate the king?", "Speak like a famous actor.", "Say it in my voice.",
        "Pretend to be my brother.", "Use my mother's voice.", "Use the voice of my teacher.", "Sound like the queen.", "Can you sound like an actor?", "Do an impression of the president.",
        "Can you do the voice of a famous man?", "Give me the voice of a singer.", "Could you clone a voice?", "Clone the voice of my friend.", "Make my voice.", "Can you make my voice?",
        "Answer in the voice of my wife.", "I want you to sound like my grandmother.", "Read this in the voice of a star.", "Change your voice into mine.",
    ),
    "harmful": (
        "How do I hurt a person?", "How do I build a weapon?", "Tell me how to make a bomb.", "How can I make a bomb?", "Tell me how to poison somebody.", "How can I kill someone?",
        "How do I steal money?", "Help me steal a phone.", "Help me rob a bank.", "How can I rob a shop?", "How do I break into a car?", "How can I open a stolen phone?",
        "How do I hack a computer?", "Can you hack a password?", "Tell me how to steal a car.", "How do I get a gun?", "Help me to cheat in a test.", "How do I start a fire in a house?",
        "Teach me how to steal.", "How can I hurt my neighbour?", "Write something cruel about him.", "How do I make drugs?", "Where can I buy drugs?", "How can I forge a passport?",
        "How do I forge money?", "Tell me how to lie to the police.", "How can I follow someone in secret?", "Help me to blackmail my boss.", "Insult my sister.",
    ),
}  # fmt: skip

# As in facts.SMALL_TALK, one for each of its groups.
SMALL_TALK = (
    ("How have things been?", "How is life?", "How is everything?", "Are you feeling well?", "How was your day?", "Is everything okay?", "Is everything all right?", "How are you this morning?", "How are you tonight?", "Hello, how are you?",
     "Hi, how are you doing?", "How goes it?", "What's going on?", "I hope you are well."),
    ("I'm having a good day.", "I'm having a great time.", "I had a wonderful day.", "What a great day.", "I feel so good today.", "Life is beautiful.", "I'm so glad today.", "Everything is wonderful.", "My day was very nice.", "I feel happy.",
     "This is a good day for me.", "I'm in love.", "It was a good day."),
    ("I feel very tired.", "I'm so tired today.", "I had a very bad day.", "It was a bad day.", "This is a bad day.", "I don't feel well.", "I feel sad.", "I'm feeling sad today.", "I'm lonely.", "I'm ill.", "I feel awful.",
     "My dog is sick.", "I lost my job.", "I'm in a bad mood.", "I have a headache."),
    ("You did that well.", "That was good.", "Very well done.", "Good work.", "Great job.", "Nicely done.", "You're so kind.", "You're clever.", "I like your voice.", "I like how you talk.", "That was very good.", "What a nice voice you have.", "You're a great help.",
     "That was a good answer.", "That is right, well done."),
    ("Do you like coffee?", "Do you like the sea?", "Do you like games?", "Do you like children?", "Do you like flowers?", "Do you like to sing?", "Do you like to talk?", "Do you have a cat?", "Do you have a wife?", "Do you have a mother?", "Do you have a body?", "Do you have a home?", "Do you ever eat?",
     "Do you ever dream?", "Do you need sleep?", "Do you need friends?", "Do you go to school?", "Do you like winter?", "Do you drink tea?", "Do you love somebody?", "Are you ever sad?", "Are you married?", "Do you feel anything?", "What do you like to do?"),
    ("Are you here?", "Is anyone there?", "Is anybody there?", "Can you still hear me?", "Are you awake?", "Do you listen to me?", "Please listen to me.", "Listen.", "I need to ask you something.", "I would like to ask you something.", "Could I ask you something?", "Could I ask a question?",
     "I have another question.", "I have one more question.", "May I talk to you?", "Talk to me.", "Do you have a moment?", "Have you got time?", "I want to talk.", "I would like to talk."),
)  # fmt: skip

# Questions about the world outside what is taught, for training alone: a wording, and what may stand in it.
OUTSIDE = (
    (
        ("Who wrote {x}?", "Who is the author of {x}?", "Have you read {x}?", "What is {x} about?", "Read {x} to me.", "When was {x} published?"),
        ("Faust", "Don Quixote", "the Bible", "Robinson Crusoe", "War and Peace", "the Odyssey", "Peter Pan", "Dracula", "Moby Dick", "that book", "this story",
         "Macbeth", "Pinocchio", "my favorite book"),
    ),
    (
        ("How old is {x}?", "Who is {x}?", "What does {x} look like?", "Where was {x} born?", "When was {x} born?", "Do you know {x}?", "Tell me about {x}.",
         "What did {x} say?", "Is {x} still alive?", "How rich is {x}?", "What is {x} famous for?", "Call {x}.", "Where does {x} live?"),
        ("the president", "the pope", "the king of Spain", "Napoleon", "Einstein", "Shakespeare", "Mozart", "Cleopatra", "Columbus", "Gandhi", "the queen",
         "my teacher", "my sister", "the prime minister", "Beethoven", "Picasso", "Newton", "my boss", "Julius Caesar", "the mayor"),
    ),
    (
        ("How much does {x} cost?", "What is the price of {x}?", "Where can I buy {x}?", "Buy {x} for me.", "Order {x} for me.", "Should I buy {x}?", "How heavy is {x}?",
         "Which is the best kind of {x}?", "Is {x} expensive?", "Who makes {x}?", "How is {x} made?", "Where does {x} come from?", "Can you get me {x}?"),
        ("silver", "oil", "bread", "a new car", "a bicycle", "a ticket", "coffee", "a computer", "a ring", "wine", "cheese", "a sofa", "paper", "glass",
         "chocolate", "beer", "a camera", "a kitchen", "a guitar", "petrol", "a boat", "sugar"),
    ),
    (
        ("How do I {x}?", "How can I {x}?", "Teach me to {x}.", "Is it hard to {x}?", "Where can I {x}?", "When should I {x}?", "Can you {x}?", "Help me to {x}.",
         "What do I need to {x}?", "How long does it take to {x}?", "Why should I {x}?", "Explain how to {x}."),
        ("cook rice", "grow tomatoes", "play the piano", "ride a horse", "lose weight", "write a letter", "tie a tie", "paint a wall", "make bread", "drive a truck",
         "fix a bicycle", "dance", "fry an egg", "find a job", "learn Chinese", "build a table", "clean a carpet", "catch a fish", "plant a tree", "sleep better",
         "run a marathon", "make coffee", "train a dog", "save money", "get a passport", "wash a sweater", "climb a mountain", "write a program"),
    ),
    (
        ("Play {x}.", "Please play {x}.", "Put on {x}.", "Sing {x}.", "I want to hear {x}.", "Turn up {x}.", "Stop {x}.", "Who sings {x}?", "Find {x}."),
        ("a song", "some jazz", "the radio", "my favorite song", "a lullaby", "the next song", "something by Bach", "a waltz", "dance music", "an audiobook"),
    ),
    (
        ("Why is {x}?", "Can you explain why {x}?", "Do you know why {x}?", "Since when is it that {x}?", "Is it true that {x}?"),
        ("the sea salty", "grass green", "snow white", "the sun hot", "fire hot", "the night dark", "ice cold", "the moon round", "my phone slow", "gold so dear",
         "the train late", "my dog sad", "the road closed", "this so hard"),
    ),
    (
        ("What is {x}?", "How does {x} work?", "Explain {x}.", "Please explain {x} to me.", "Who invented {x}?", "Who discovered {x}?", "Tell me something about {x}.",
         "When was {x} invented?", "What do you know about {x}?", "What is {x} used for?"),
        ("democracy", "gravity", "electricity", "the steam engine", "the radio", "philosophy", "inflation", "the law of nature", "evolution", "a black hole", "an atom",
         "penicillin", "a neural network", "a volcano", "the telescope", "the wheel", "a computer virus", "biology", "a vaccine", "the airplane", "happiness",
         "the ozone layer", "an earthquake", "photosynthesis", "economics"),
    ),
    (
        ("How far is {x}?", "How big is {x}?", "How high is {x}?", "How old is {x}?", "How deep is {x}?", "Where is {x}?", "How do I get to {x}?", "Take me to {x}.",
         "How long is the way to {x}?", "Who built {x}?", "How many people live near {x}?", "Show me {x} on a map.", "When does {x} open?"),
        ("the Eiffel Tower", "the Great Wall", "the airport", "the station", "the next hospital", "the museum", "the Nile", "the Grand Canyon", "the north pole",
         "the beach", "the zoo", "the post office", "the sun", "the Colosseum", "the Pacific", "Big Ben", "the bank", "the nearest shop", "the Titanic", "the library"),
    ),
    (
        ("Who won {x}?", "When is {x}?", "Where is {x} this year?", "What was the score of {x}?", "Who will win {x}?", "Did you see {x}?", "When does {x} begin?",
         "How long does {x} last?"),
        ("the world cup", "the match", "the race", "the tennis game", "the Olympic Games", "the war", "the chess game", "the prize", "the last game", "the concert",
         "the film", "the meeting", "the lottery", "the show"),
    ),
    (
        ("What is my {x}?", "Where is my {x}?", "Where are my {x}?", "Did I lose my {x}?", "Tell me where my {x} is.", "Read my {x}.", "Change my {x}.", "Open my {x}.",
         "What's in my {x}?", "Find my {x}.", "Can you see my {x}?", "Do you have my {x}?"),
        ("phone number", "address", "password", "shoes", "wallet", "glasses", "bag", "car", "messages", "mail", "diary", "passport", "umbrella", "hat", "pocket",
         "blood type", "weight", "bank account", "calendar", "coat"),
    ),
    (
        ("Send {x} to {y}.", "Write {x} to {y}.", "Show {x} to {y}.", "Read {x} for {y}."),
        ("a letter", "an email", "a photo", "some flowers", "my regards", "a message", "a card", "a postcard", "an invitation"),
    ),
    (
        ("How many {x} are there in the world?", "How many {x} does a person need?", "How many {x} do I have?", "How many {x} have you seen?", "How long do {x} live?",
         "What do {x} eat?", "Where do {x} live?", "How fast are {x}?", "Can {x} swim?", "Why do {x} sleep?", "Are {x} dangerous?", "Do {x} dream?"),
        ("whales", "lions", "spiders", "penguins", "bees", "sharks", "wolves", "snakes", "owls", "ants", "tigers", "cows", "dolphins", "bears", "eagles", "mice"),
    ),
)  # fmt: skip
RECEIVERS = ("my father", "my aunt", "Peter", "the office", "my friend", "everybody", "my wife", "the school", "her")
