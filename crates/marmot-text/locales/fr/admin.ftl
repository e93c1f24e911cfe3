### What administrators see: the server, people, the audit.

accounts = Comptes
admin-apps-on = Applications allumées
admin-budget = Tous les réplicas ensemble peuvent occuper { $budget }. Au-delà, ceux qui sont en veille sont arrêtés, en commençant par ceux qui redémarrent à peu de frais et servent rarement.
admin-doctor-says = dit quoi faire.
admin-everything-else = Tout le reste
admin-evictions = Arrêtées pour faire de la place
admin-free = Libre
admin-hibernated = { $count ->
    [one] En hibernation ({ $count } réplica)
   *[other] En hibernation ({ $count } réplicas)
    }
admin-hibernated-replicas = Réplicas en hibernation
admin-lead = À quoi sert sa mémoire, et toutes les applications allumées.
admin-no-evictions = Aucune ces derniers temps : il y avait assez de mémoire pour tout ce qui était en veille.
admin-no-swap = Il n’y a pas d’espace d’échange (swap) : les réplicas en hibernation gardent leur mémoire.
admin-replicas-asleep = { $asleep } en veille
admin-replicas-none = aucun
admin-running = { $count ->
    [one] En marche ({ $count } réplica)
   *[other] En marche ({ $count } réplicas)
    }
admin-shut-down-app = Éteindre { $name }
admin-sleep = Mettre en veille
admin-sleep-app = Mettre en veille : { $name }
app = Application
apps = Applications
apps-none-found = Aucune application allumée ne correspond.
apps-none-on = Aucune application n’est allumée en ce moment.
audit-export = Exporter en lignes JSON
audit-from = Depuis
audit-label = Ce qui a été fait, le plus récent d’abord
audit-to = Sur quoi
audit-what = Quoi
audit-when = Quand
audit-who = Qui
back = Retour
count-people = { $count ->
    [one] { $count } personne
   *[other] { $count } personnes
    }
default = par défaut
email = E-mail
email-address = Adresse e-mail
may = Peut
may-nothing = rien : désactivé
may-run-server = gérer ce serveur
may-use-server = utiliser ce serveur
memory = Mémoire
more = Plus
nothing-yet = Rien pour l’instant.
pages-of-apps = Pages d’applications
people = Personnes
people-add = Ajouter une personne
people-delete-name = Supprimer { $username }
people-delete-title = Supprimer le compte de { $username } ?
people-delete-warning = Ce qui est connu de la personne disparaît avec lui. Ce qu’elle a fait reste dans l’audit. C’est irréversible.
people-disable = Désactiver
people-disable-name = Désactiver { $username }
people-enable = Activer
people-enable-name = Activer { $username }
people-lead = Toutes les personnes qui ont un compte sur ce serveur.
people-link-about = pour choisir un mot de passe. Il fonctionne une fois, dans la journée, et ne sera plus affiché.
people-link-for = Un lien pour { $username }
people-make-admin = Nommer administrateur
people-make-admin-name = Nommer administrateur : { $username }
people-no-admin = Retirer l’administration
people-no-admin-name = Ne plus être administrateur : { $username }
people-password-link = Lien de mot de passe
people-password-link-for = Lien de mot de passe pour { $username }
people-username-help = Lettres a-z, chiffres et traits d’union.
replicas = Réplicas
replicas-awake = { $awake } éveillés
replicas-awake-asleep = { $awake } éveillés, { $asleep } en veille
resource-classes = Classes de ressources
resource-classes-about = Ce qu’un réplica peut utiliser. Elles sont définies dans la configuration du serveur.
search = Rechercher
seek-placeholder = Nom, description ou projet
seek-words = Mots du nom, de la description ou du projet
show-all = Tout afficher
shut-down = Éteindre
since = Depuis
state = État
swap = Espace d’échange (swap)
this-server = Ce serveur
what-can-be-done = Actions possibles
who-did-what = Qui a fait quoi
