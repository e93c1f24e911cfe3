### States, times, amounts, and what went wrong.

ago-days = il y a { $count } jours
ago-hours = il y a { $count } h
ago-minutes = il y a { $count } min
build-called-off = Il a été annulé.
build-cancelled = Annulé
build-cancelled-ago = Build annulé { $ago }
build-failed-ago = Échec du build { $ago }
building-now = Construction en cours
built = Construit
built-ago = Construit { $ago }
built-from = Construit { $ago } depuis { $commit }
copies-awake = { $count } copies sont éveillées et répondent.
date = { $day } { $month } { $year }
delete-no = Conserver
delete-yes = Oui, supprimer
error-already-active = L’application du lanceur est déjà activée.
error-busy = Trop de personnes se connectent en ce moment : réessayez dans { $seconds } s.
error-disk-full = Le disque du serveur est plein, rien n’a été changé : la personne qui l’exploite doit faire de la place.
error-forbidden = Vous n’y êtes pas autorisé.
error-internal = Le serveur n’a pas pu le faire ; c’est noté dans son journal.
error-invalid-credentials = Le jeton ou la session n’est pas (ou plus) valable.
error-link-spent = Ce lien ne fonctionne pas : il a déjà été utilisé ou a expiré ; demandez-en un autre.
error-not-found = Cela n’existe pas, ou vous ne pouvez pas le voir.
error-sign-in-needed = Il faut vous connecter pour cela.
error-stale = Cela a changé entre-temps : relisez-le et refaites la modification.
error-too-many-tries = Trop d’essais : réessayez dans { $seconds } s.
error-too-often = { $message } Réessayez dans { $seconds } s, ou { $otherwise }.
error-wrong-credentials = Le nom d’utilisateur ou le mot de passe est incorrect.
expired = expiré
for-30-days = 30 jours
for-90-days = 90 jours
for-a-day = Un jour
for-a-week = Une semaine
for-a-year = Un an
for-until-revoked = Jusqu’à révocation
go-home = Aller à l’accueil
gpus = { $count ->
    [one] , { $count } GPU
   *[other] , { $count } GPU
    }
image-pushed = Son image est dans le registre : { $image }
just-now = à l’instant
memory-gb = { $count } Go
memory-mb = { $count } Mo
month-1 = janvier
month-10 = octobre
month-11 = novembre
month-12 = décembre
month-2 = février
month-3 = mars
month-4 = avril
month-5 = mai
month-6 = juin
month-7 = juillet
month-8 = août
month-9 = septembre
never = jamais
no-resource-class = aucune classe de ressources
on-date = le { $date }
once = une fois
people-using-now = { $count ->
    [one] { $count } personne l’utilise en ce moment
   *[other] { $count } personnes l’utilisent en ce moment
    }
phase-asleep = Allumée, en veille
phase-building = En construction
phase-building-about = Son environnement est construit à partir du code.
phase-failed = En échec
phase-failed-about = Elle ne peut pas être ouverte.
phase-off = Éteinte
phase-off-about = Personne ne peut l’ouvrir.
phase-on = Allumée
phase-on-about = Éveillée, elle répond.
phase-starting = Démarrage
phase-starting-about = Elle démarre.
phase-stopping = Extinction
phase-stopping-about = Les dernières requêtes reçoivent leur réponse.
phase-updating = Allumée, mise à jour
phase-updating-about = Reste ouverte pendant la préparation de sa prochaine version.
phase-wakes = Se réveille quand quelqu’un l’ouvre.
phase-wakes-in = Se réveille en environ { $time } quand quelqu’un l’ouvre.
phase-waking = Allumée, se réveille
phase-waking-about = Quelqu’un est en train de l’ouvrir.
pull-cancelled = Récupération annulée { $ago }
pull-failed = Échec de la récupération { $ago }
pulled = Récupérée { $ago }
pulled-as = Récupérée { $ago }, { $commit }
pulling-now = Récupération en cours
refused-a-moment = Un instant, s’il vous plaît
refused-conflict = Cela ne va pas ensemble
refused-did-not-work = Cela n’a pas marché
refused-elsewhere = Pas d’ici
refused-elsewhere-about = Cette requête venait d’un autre site ; rien n’a été changé. Ouvrez Marmot à sa propre adresse et réessayez.
refused-invalid = Cela ne peut pas se faire ainsi
refused-link-over = Un lien expiré
refused-no-such-page = Cette page n’existe pas. Elle a peut-être été déplacée ou supprimée.
refused-not-offered = Non proposé ici
refused-not-yours = Action non autorisée
refused-nothing-here = Rien ici
refused-our-side = Une erreur s’est produite de notre côté
refused-sign-in = Veuillez vous connecter
refused-too-much = C’était trop
refused-too-much-about = Ce qui a été envoyé est plus long que ne peut l’être un de nos formulaires, ou s’est interrompu en route.
role-editor = éditeur
role-owner = propriétaire
role-viewer = lecteur
shut-down-means = Personne ne pourra l’ouvrir avant qu’elle soit rallumée.
shut-down-nobody = Personne n’utilise cette application en ce moment.
shut-down-people = { $count ->
    [one] { $count } personne utilise cette application en ce moment. L’éteindre la déconnecte.
   *[other] { $count } personnes utilisent cette application en ce moment. L’éteindre les déconnecte.
    }
source-at = { $source } à { $revision }
switch-off-no = La laisser allumée
switch-off-title = Éteindre « { $name } » pour tous ?
switch-off-yes = Oui, l’éteindre
switched-on = Allumée { $ago }
times = { $count } fois
until-revoked = à la révocation
used-by-nobody = personne
used-by-requests = { $count ->
    [one] { $count } requête
   *[other] { $count } requêtes
    }
used-by-sessions = { $count ->
    [one] { $count } session
   *[other] { $count } sessions
    }
