### The frame of all pages, and words that many of them use.

account = Konto
account-and-tokens = Konto und Tokens
design = Gestaltung
design-variable-is-ours = Die Variable „PORT“ wird von der Plattform gesetzt: einen anderen Namen wählen.
failure = Fehlgeschlagen:
field-wrong = Falsch:
footer-slogan = Marmot { $version }: da, wenn man es braucht, kostenlos im Schlaf.
language = Sprache
log-last-lines = Die letzten Zeilen des Protokolls
script-copied = Kopiert
script-no-copying = Der Browser erlaubt kein Kopieren. Der Link:
script-no-server = Der Server ist zurzeit nicht zu erreichen.
script-reload = Das hat nicht geklappt. Die Seite neu laden und erneut versuchen.
sign-in = Anmelden
sign-out = Abmelden
skip-to-content = Zum Inhalt springen
