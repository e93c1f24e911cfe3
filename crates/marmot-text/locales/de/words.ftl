### States, times, amounts, and what went wrong.

ago-days = vor { $count } Tagen
ago-hours = vor { $count } h
ago-minutes = vor { $count } min
build-called-off = Er wurde abgebrochen.
build-cancelled = Abgebrochen
build-cancelled-ago = Build { $ago } abgebrochen
build-failed-ago = Build { $ago } fehlgeschlagen
building-now = Wird gebaut
built = Gebaut
built-ago = Gebaut { $ago }
built-from = Gebaut { $ago } aus { $commit }
copies-awake = { $count } Kopien sind wach und antworten.
date = { $day }. { $month } { $year }
delete-no = Behalten
delete-yes = Ja, löschen
error-already-active = Die App des Launchers ist schon eingeschaltet.
error-busy = Im Moment melden sich zu viele Leute an: in { $seconds } s erneut versuchen.
error-disk-full = Die Festplatte des Servers ist voll, es wurde nichts geändert: Wer ihn betreibt, muss Platz schaffen.
error-forbidden = Das ist Ihnen nicht erlaubt.
error-internal = Der Server konnte das nicht; es steht in seinem Protokoll.
error-invalid-credentials = Token oder Sitzung ist nicht (mehr) gültig.
error-link-spent = Dieser Link funktioniert nicht: Er wurde schon benutzt oder ist abgelaufen; um einen neuen bitten.
error-not-found = Das gibt es nicht, oder Sie dürfen es nicht sehen.
error-sign-in-needed = Dafür ist eine Anmeldung nötig.
error-stale = Es wurde inzwischen geändert: neu laden und die Änderung wiederholen.
error-too-many-tries = Zu viele Versuche: in { $seconds } s erneut versuchen.
error-too-often = { $message } In { $seconds } s erneut versuchen, oder { $otherwise }.
error-wrong-credentials = Benutzername oder Passwort ist falsch.
expired = abgelaufen
for-30-days = 30 Tage
for-90-days = 90 Tage
for-a-day = einen Tag
for-a-week = eine Woche
for-a-year = ein Jahr
for-until-revoked = bis zum Widerruf
go-home = Zur Startseite
gpus = { $count ->
    [one] , { $count } GPU
   *[other] , { $count } GPUs
    }
image-pushed = Sein Image liegt in der Registry: { $image }
just-now = gerade eben
memory-gb = { $count } GB
memory-mb = { $count } MB
month-1 = Januar
month-10 = Oktober
month-11 = November
month-12 = Dezember
month-2 = Februar
month-3 = März
month-4 = April
month-5 = Mai
month-6 = Juni
month-7 = Juli
month-8 = August
month-9 = September
never = nie
no-resource-class = keine Ressourcenklasse
on-date = am { $date }
once = einmal
people-using-now = { $count ->
    [one] { $count } Person benutzt sie gerade
   *[other] { $count } Personen benutzen sie gerade
    }
phase-asleep = An, schläft
phase-building = Wird gebaut
phase-building-about = Ihre Umgebung wird aus dem Code gebaut.
phase-failed = Fehlgeschlagen
phase-failed-about = Sie kann nicht geöffnet werden.
phase-off = Aus
phase-off-about = Niemand kann sie öffnen.
phase-on = An
phase-on-about = Wach und antwortet.
phase-starting = Startet
phase-starting-about = Sie fährt hoch.
phase-stopping = Wird ausgeschaltet
phase-stopping-about = Die letzten Anfragen werden beantwortet.
phase-updating = An, wird erneuert
phase-updating-about = Bleibt offen, während die nächste Version vorbereitet wird.
phase-wakes = Wacht auf, wenn jemand sie öffnet.
phase-wakes-in = Wacht in etwa { $time } auf, wenn jemand sie öffnet.
phase-waking = An, wacht auf
phase-waking-about = Jemand öffnet sie gerade.
pull-cancelled = Abruf { $ago } abgebrochen
pull-failed = Abruf { $ago } fehlgeschlagen
pulled = Abgerufen { $ago }
pulled-as = Abgerufen { $ago } als { $commit }
pulling-now = Wird abgerufen
refused-a-moment = Einen Moment, bitte
refused-conflict = Das passt nicht zusammen
refused-did-not-work = Das hat nicht geklappt
refused-elsewhere = Nicht von hier
refused-elsewhere-about = Diese Anfrage kam von einer anderen Website; es wurde nichts geändert. Marmot unter seiner eigenen Adresse öffnen und es dort erneut versuchen.
refused-invalid = So geht das nicht
refused-link-over = Ein abgelaufener Link
refused-no-such-page = Diese Seite gibt es nicht. Sie wurde vielleicht verschoben oder gelöscht.
refused-not-offered = Hier nicht verfügbar
refused-not-yours = Nicht erlaubt
refused-nothing-here = Hier ist nichts
refused-our-side = Auf unserer Seite ist etwas schiefgegangen
refused-sign-in = Bitte anmelden
refused-too-much = Das war zu viel
refused-too-much-about = Was gesendet wurde, ist länger, als ein Formular hier sein kann, oder brach unterwegs ab.
role-editor = Bearbeiter
role-owner = Eigentümer
role-viewer = Betrachter
shut-down-means = Niemand kann sie öffnen, bis sie wieder eingeschaltet wird.
shut-down-nobody = Zurzeit benutzt niemand diese App.
shut-down-people = { $count ->
    [one] { $count } Person benutzt diese App gerade.
   *[other] { $count } Personen benutzen diese App gerade.
    } Ausschalten trennt ihre Verbindung.
source-at = { $source } bei { $revision }
switch-off-no = Eingeschaltet lassen
switch-off-title = „{ $name }“ für alle ausschalten?
switch-off-yes = Ja, ausschalten
switched-on = Eingeschaltet { $ago }
times = { $count }-mal
until-revoked = zum Widerruf
used-by-nobody = niemandem
used-by-requests = { $count ->
    [one] { $count } Anfrage
   *[other] { $count } Anfragen
    }
used-by-sessions = { $count ->
    [one] { $count } Sitzung
   *[other] { $count } Sitzungen
    }
