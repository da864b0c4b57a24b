"""What `antiphon bench` measures. Each command is a module with a `main(argv)`, and with `KEYS`, which says what each
key of its last line means.
"""

COMMANDS = {
    "ttfa": "time to first audio of one session",
    "load": "time to first audio of many sessions at once, and the largest number that holds",
    "overload": "what twice the capacity does to those who are served, and to those who are not",
    "turns": "whether turn 50 of a conversation is answered as fast as turn 2",
    "gateway": "what the gateway alone adds to every chunk, and a session's memory",
    "engine": "each step of the embedded engine against its floor",
    "compare": "several servers in one run, in turn",
    "report": "one page with pictures of saved results",
    "all": "everything that the project promises, three times, with a report",
}
"""In the order in which a person wants them."""
