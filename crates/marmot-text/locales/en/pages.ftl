### The frame of all pages, and words that many of them use.

account = Account
account-and-tokens = Account and tokens
design = Design
design-variable-is-ours = The variable “PORT” is set by the platform: choose another name.
failure = Failed:
field-wrong = Wrong:
footer-slogan = Marmot { $version }: ready on demand, free while asleep.
language = Language
log-last-lines = The last lines of the log
script-copied = Copied
script-no-copying = Your browser does not allow copying. The link:
script-no-server = The server cannot be reached right now.
script-reload = That did not work. Reload the page and try again.
sign-in = Sign in
sign-out = Sign out
skip-to-content = Skip to the content
