### What administrators see: the server, people, the audit.

accounts = Konten
admin-apps-on = Eingeschaltete Apps
admin-budget = Alle Repliken zusammen dürfen { $budget } belegen. Darüber hinaus werden schlafende angehalten, zuerst jene, die schnell wieder starten und selten gebraucht werden.
admin-doctor-says = sagt, was zu tun ist.
admin-everything-else = Alles andere
admin-evictions = Angehalten, um Platz zu schaffen
admin-free = Frei
admin-hibernated = { $count ->
    [one] Ruhend ({ $count } Replik)
   *[other] Ruhend ({ $count } Repliken)
    }
admin-hibernated-replicas = Ruhende Repliken
admin-lead = Wofür der Arbeitsspeicher verwendet wird, und alle Apps, die eingeschaltet sind.
admin-no-evictions = In letzter Zeit keine: Der Arbeitsspeicher reichte für alles, was schlief.
admin-no-swap = Es gibt keinen Auslagerungsspeicher (Swap): Ruhende Repliken behalten ihren Arbeitsspeicher.
admin-replicas-asleep = { $asleep } schlafend
admin-replicas-none = keine
admin-running = { $count ->
    [one] Laufend ({ $count } Replik)
   *[other] Laufend ({ $count } Repliken)
    }
admin-shut-down-app = { $name } ausschalten
admin-sleep = Schlafen legen
admin-sleep-app = Schlafen legen: { $name }
app = App
apps = Apps
apps-none-found = Keine eingeschaltete App passt dazu.
apps-none-on = Zurzeit ist keine App eingeschaltet.
audit-export = Als JSON-Zeilen exportieren
audit-from = Von wo
audit-label = Was getan wurde, das Neueste zuerst
audit-to = Woran
audit-what = Was
audit-when = Wann
audit-who = Wer
back = Zurück
count-people = { $count ->
    [one] { $count } Person
   *[other] { $count } Personen
    }
default = Standard
email = E-Mail
email-address = E-Mail-Adresse
may = Darf
may-nothing = nichts: gesperrt
may-run-server = diesen Server betreiben
may-use-server = diesen Server benutzen
memory = Arbeitsspeicher
more = Mehr
nothing-yet = Noch nichts.
pages-of-apps = Seiten der Apps
people = Personen
people-add = Person hinzufügen
people-delete-name = { $username } löschen
people-delete-title = Das Konto von { $username } löschen?
people-delete-warning = Was über die Person bekannt ist, geht mit. Was sie getan hat, bleibt im Audit. Das lässt sich nicht rückgängig machen.
people-disable = Sperren
people-disable-name = { $username } sperren
people-enable = Entsperren
people-enable-name = { $username } entsperren
people-lead = Alle, die auf diesem Server ein Konto haben.
people-link-about = , um ein Passwort zu wählen. Er funktioniert einmal, innerhalb eines Tages, und wird nicht noch einmal gezeigt.
people-link-for = Ein Link für { $username }
people-make-admin = Zum Administrator machen
people-make-admin-name = Zum Administrator machen: { $username }
people-no-admin = Kein Administrator mehr
people-no-admin-name = Kein Administrator mehr: { $username }
people-password-link = Passwort-Link
people-password-link-for = Passwort-Link für { $username }
people-username-help = Buchstaben a-z, Ziffern und Bindestriche.
replicas = Repliken
replicas-awake = { $awake } wach
replicas-awake-asleep = { $awake } wach, { $asleep } schlafend
resource-classes = Ressourcenklassen
resource-classes-about = Was eine Replik verbrauchen darf. Festgelegt in der Konfiguration des Servers.
search = Suchen
seek-placeholder = Name, Beschreibung oder Projekt
seek-words = Wörter in Name, Beschreibung oder Projekt
show-all = Alle zeigen
shut-down = Ausschalten
since = Seit
state = Zustand
swap = Auslagerungsspeicher (Swap)
this-server = Dieser Server
what-can-be-done = Mögliche Aktionen
who-did-what = Wer hat was getan
