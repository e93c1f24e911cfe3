### The frame of all pages, and words that many of them use.

account = Compte
account-and-tokens = Compte et jetons
design = Design
design-variable-is-ours = La variable « PORT » est définie par la plateforme : choisissez un autre nom.
failure = Échec :
field-wrong = Erreur :
footer-slogan = Marmot { $version } : prêt à la demande, gratuit en veille.
language = Langue
log-last-lines = Les dernières lignes du journal
script-copied = Copié
script-no-copying = Votre navigateur n’autorise pas la copie. Le lien :
script-no-server = Le serveur est injoignable pour le moment.
script-reload = Cela n’a pas marché. Rechargez la page et réessayez.
sign-in = Se connecter
sign-out = Se déconnecter
skip-to-content = Aller au contenu
