### What happens to apps, and why.

cannot-wake = elle ne peut pas se réveiller maintenant : { $why }
event-activated = a été allumée
event-adopted = a continué pendant le redémarrage du serveur
event-branch-gone = est terminé : la branche n’existe plus
event-branch-moved = est reconstruite, car { $revision } est maintenant à { $short }
event-branch-removed = est terminé : la branche a été supprimée
event-build-cancelled = son build a été annulé
event-built = a été construite à partir de { $commit }
event-changed = est reconstruite, car son lanceur a été modifié
event-changed-meanwhile = est reconstruite, car son lanceur a été modifié entre-temps
event-deepened = aucune visite n’est attendue bientôt : { $percent } % dans l’heure → sa réplica en veille s’endort plus profondément
event-deepened-in-time = sa réplica en veille s’endort plus profondément, car elle dort depuis longtemps
event-held-back = attend de la mémoire : { $why }
event-hibernated = s’est mise en veille, car personne ne l’utilisait
event-key-made = laisse entrer les programmes avec la clé « { $name } »
event-key-revoked = laisse entrer les programmes avec une clé de moins
event-let-go = aucune visite n’est attendue bientôt : { $percent } % dans l’heure → sa réplica en veille est arrêtée
event-link-made = peut être ouverte par le lien « { $name } »
event-link-revoked = est ouverte par un lien de moins
event-made-room = sa réplica en veille est arrêtée, car la mémoire manque
event-not-built = n’a pas pu être construite
event-open-by-link = est ouverte à tous ceux qui ont un lien
event-open-to-everyone = est ouverte à tous
event-open-to-members = est ouverte aux membres de son projet
event-open-to-named = est ouverte aux personnes nommées
event-open-to-signed-in = est ouverte à toute personne connectée
event-other-secrets = continue avec d’autres secrets
event-other-settings = continue avec d’autres réglages
event-preview-ended = un aperçu de la branche { $branch } { $why }
event-preview-made = a un aperçu de la branche { $branch }
event-preview-other-code = est terminé : son lanceur porte sur un autre code
event-pulled = a l’image { $image } en tant que { $digest }
event-pushed = est reconstruite, car quelqu’un a poussé du code
event-ready = était prête après { $time } s
event-request-closed = est terminé : sa demande de fusion a été fermée
event-restarted = redémarre : la révision { $number } est la même qu’avant, avec de nouvelles réplicas
event-retried = est essayée de nouveau
event-rolled-back = a été remise à la révision { $number }
event-scaled = { $why } → { $to ->
    [one] { $to } réplica
   *[other] { $to } réplicas
    } (avant : { $from })
event-scaling-changed = s’adapte selon d’autres réglages
event-shut-down = a été éteinte
event-started = une réplica a été démarrée : { $why }
event-stopped = une réplica a été arrêtée
event-time-over = est terminé : son temps était écoulé
event-traffic-changed = traite les requêtes selon d’autres réglages
event-update-failed = la révision { $number } n’a pas pu démarrer ({ $why }) : la révision { $earlier } continue
event-was-ended = a été terminé
event-with-secret = continue avec une autre valeur du secret { $name }
event-without-secret = continue sans le secret { $name }
event-woke = s’est réveillée en { $time } ms
failed-beyond-memory = mémoire épuisée : le programme a utilisé plus que ses { $limit } Mio
failed-could-not-start = le programme n’a pas pu démarrer : { $why }
failed-disk-full = disque plein : le programme garde plus que ses { $limit } Mio sur le disque
failed-ended = le programme s’est terminé de lui-même (code 0) ; une application web doit continuer à tourner
failed-exited = le programme s’est terminé avec le code { $code }
failed-killed = le programme a été terminé par le signal { $signal }
failed-listens-elsewhere = l’application n’écoutait pas sur le port { $port } après { $seconds } s ; elle écoute sur { $ports } : démarrez-la avec le port de $PORT
failed-never-listened = l’application n’écoutait pas sur le port { $port } après { $seconds } s ; elle n’écoute sur aucun port : démarrez-la sur 0.0.0.0 et le port de $PORT
failed-out-of-memory = mémoire épuisée, { $used } Mio utilisés sur { $limit } : donnez à son lanceur une classe de ressources plus grande
failed-too-many-files = disque plein : le programme garde trop de fichiers
failed-unknown = le programme s’est terminé, et le moteur de conteneurs ne dit pas comment : il a peut-être été redémarré
held-back = les applications éveillées de son projet utilisent { $used } des { $limit } Mio de mémoire dont elles disposent ensemble, et elle a besoin de { $needed } Mio : elle démarre dès qu’une autre se met en veille ou est éteinte
held-back-for-good = elle a besoin de { $needed } Mio de mémoire, et les applications de son projet disposent ensemble de { $limit } Mio : donnez à son lanceur une classe de ressources plus petite, ou demandez une limite plus haute à l’administration
not-started = elle n’a pas pu démarrer
start-as-root = le lanceur dit que l’image tourne en root (identifiant 0), qui est aussi root du noyau de cette machine : donnez un autre identifiant, ou aucun
start-bad-argument = un argument de la commande contient un octet NUL
start-bad-variable = la variable `{ $variable }` ne peut pas être définie : un nom n’est ni vide ni avec `=`, et aucun des deux ne contient d’octet NUL
start-elsewhere = ses conteneurs ne tournent pas sur cette machine : la passerelle ne peut pas les joindre
start-ended-at-once = il s’est terminé aussitôt : { $why }
start-engine = { $why } ; demandez aux opérateurs de cette installation de s’en occuper
start-no-artefact = le résultat de son build ({ $build }) n’est plus là ; reconstruisez-la
start-no-command = rien ne dit comment la démarrer : donnez une commande au lanceur, ou ajoutez au code un `Procfile` avec une ligne `web: …`
start-no-engine = les images de conteneurs ne peuvent pas tourner ici : cette installation n’a pas de moteur de conteneurs
start-no-gpus = sa classe de ressources a des GPU, que seuls des conteneurs peuvent recevoir : choisissez une autre classe, ou faites construire le code par un Dockerfile
start-no-gpus-here = sa classe de ressources a des GPU, et le moteur de conteneurs n’en a pas à donner : choisissez une autre classe, ou demandez aux opérateurs de les installer (il dit : { $words })
start-no-image = son image ({ $build }) n’est plus là ; reconstruisez-la
start-no-network = son réseau n’a pas pu être créé : { $why }
start-no-port = aucun port n’est libre
start-no-process = le résultat de son build ({ $build }) n’est pas un programme de cette machine ; reconstruisez-la
start-no-program = il n’y a pas de programme `{ $program }`
start-no-user = l’image dit qu’elle tourne sous un utilisateur qu’elle n’a pas : donnez un identifiant d’utilisateur au lanceur
start-not-executable = `{ $program }` de l’image ne peut pas être exécuté par l’utilisateur sous lequel elle tourne
start-not-in-image = il n’y a pas de programme `{ $program }` dans l’image
start-port-in-use = le port { $port } est occupé : un programme à port fixe ne tourne qu’une fois, et seulement tant que rien d’autre ne le prend
start-secret-reader = son lanceur reçoit des secrets en fichiers, mais rien ne dit ici quel utilisateur de l’image doit les lire : donnez un identifiant d’utilisateur au lanceur, ou les secrets en variables
start-step-port = Attend son port
start-step-preparing = Prépare ses fichiers
start-wrong-machine = `{ $program }` n’est pas fait pour cette machine, qui est { $machine }
step-building = Construction
step-building-at = Construction : { $step }
update-failed-goes-on = la révision { $number } n’a pas pu démarrer ({ $why }), donc la révision { $earlier } continue
why-first-boot = une nouvelle révision doit montrer qu’elle démarre
why-foreseen = une visite est attendue : quelqu’un est venu dans { $percent } % des cas semblables
why-idle = personne ne l’utilise
why-load = { $demand } { $of ->
    [sessions] sessions ouvertes
   *[requests] requêtes en cours
    } sur { $seconds } s, objectif { $target } par réplica{ $rise ->
    [sudden] , une hausse soudaine
   *[none] {""}
    }{ $bound ->
    [most] , son maximum
    [least] , son minimum
    [rate] , pas à pas
    [share] , sa part de la machine
   *[none] {""}
    }
why-minimum = son minimum de réplicas reste éveillé
why-off = l’application est éteinte
why-schedule = elle est gardée au chaud à cette heure
why-still-warm = elle vient d’être utilisée
