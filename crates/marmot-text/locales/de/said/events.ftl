### What happens to apps, and why.

cannot-wake = sie kann jetzt nicht aufwachen: { $why }
event-activated = wurde eingeschaltet
event-adopted = lief weiter, während der Server neu gestartet wurde
event-branch-gone = ist beendet: Den Branch gibt es nicht mehr
event-branch-moved = wird neu gebaut, denn { $revision } steht jetzt bei { $short }
event-branch-removed = ist beendet: Der Branch wurde entfernt
event-build-cancelled = ihr Build wurde abgebrochen
event-built = wurde aus { $commit } gebaut
event-changed = wird neu gebaut, denn ihr Launcher wurde geändert
event-changed-meanwhile = wird neu gebaut, denn ihr Launcher wurde inzwischen geändert
event-deepened = bald ist kein Besuch zu erwarten: { $percent } % innerhalb der Stunde → ihre schlafende Replik schläft tiefer
event-deepened-in-time = ihre schlafende Replik schläft tiefer, denn sie schläft schon lange
event-held-back = wartet auf Arbeitsspeicher: { $why }
event-hibernated = schlief ein, weil niemand sie benutzte
event-key-made = lässt Programme mit dem Schlüssel „{ $name }“ ein
event-key-revoked = lässt Programme mit einem Schlüssel weniger ein
event-let-go = bald ist kein Besuch zu erwarten: { $percent } % innerhalb der Stunde → ihre schlafende Replik wird beendet
event-link-made = kann über den Link „{ $name }“ geöffnet werden
event-link-revoked = wird von einem Link weniger geöffnet
event-made-room = ihre schlafende Replik wird beendet, weil der Arbeitsspeicher knapp ist
event-not-built = konnte nicht gebaut werden
event-open-by-link = ist offen für alle, die einen Link haben
event-open-to-everyone = ist für alle offen
event-open-to-members = ist für die Mitglieder ihres Projekts offen
event-open-to-named = ist für namentlich Genannte offen
event-open-to-signed-in = ist für alle Angemeldeten offen
event-other-secrets = läuft mit anderen Geheimnissen weiter
event-other-settings = läuft mit anderen Einstellungen weiter
event-preview-ended = eine Vorschau des Branches { $branch } { $why }
event-preview-made = hat eine Vorschau des Branches { $branch }
event-preview-other-code = ist beendet: Ihr Launcher gilt anderem Code
event-pulled = hat das Image { $image } als { $digest }
event-pushed = wird neu gebaut, denn jemand hat gepusht
event-ready = war nach { $time } s bereit
event-request-closed = ist beendet: Ihr Pull-Request wurde geschlossen
event-restarted = wird neu gestartet: Revision { $number } ist dieselbe wie zuvor, mit neuen Repliken
event-retried = wird noch einmal versucht
event-rolled-back = wurde auf Revision { $number } gesetzt
event-scaled = { $why } → { $to ->
    [one] { $to } Replik
   *[other] { $to } Repliken
    } (vorher { $from })
event-scaling-changed = skaliert nach anderen Einstellungen
event-shut-down = wurde ausgeschaltet
event-started = eine Replik wurde gestartet: { $why }
event-stopped = eine Replik wurde beendet
event-time-over = ist beendet: Ihre Zeit war um
event-traffic-changed = behandelt Anfragen nach anderen Einstellungen
event-update-failed = Revision { $number } konnte nicht gestartet werden ({ $why }): Revision { $earlier } läuft weiter
event-was-ended = wurde beendet
event-with-secret = läuft mit einem anderen Wert des Geheimnisses { $name } weiter
event-without-secret = läuft ohne das Geheimnis { $name } weiter
event-woke = ist in { $time } ms aufgewacht
failed-beyond-memory = kein Arbeitsspeicher mehr: Das Programm benutzte mehr als seine { $limit } MiB
failed-could-not-start = das Programm konnte nicht gestartet werden: { $why }
failed-disk-full = Speicherplatz voll: Das Programm behält mehr als seine { $limit } MiB auf der Festplatte
failed-ended = das Programm hat sich von selbst beendet (Exit-Code 0); eine Web-App muss weiterlaufen
failed-exited = das Programm endete mit Code { $code }
failed-killed = das Programm wurde durch das Signal { $signal } beendet
failed-listens-elsewhere = die App war nach { $seconds } s nicht auf Port { $port } zu erreichen; sie lauscht auf { $ports }: mit dem Port in $PORT starten
failed-never-listened = die App war nach { $seconds } s nicht auf Port { $port } zu erreichen; sie lauscht auf gar keinem Port: auf 0.0.0.0 und dem Port in $PORT starten
failed-out-of-memory = kein Arbeitsspeicher mehr, { $used } von { $limit } MiB benutzt: dem Launcher eine größere Ressourcenklasse geben
failed-too-many-files = Speicherplatz voll: Das Programm behält zu viele Dateien
failed-unknown = das Programm endete, und die Container-Engine sagt nicht wie: Vielleicht wurde sie neu gestartet
held-back = die wachen Apps ihres Projekts benutzen { $used } der { $limit } MiB Arbeitsspeicher, die ihnen zusammen zustehen, und sie braucht { $needed } MiB: Sie startet, sobald eine andere einschläft oder ausgeschaltet wird
held-back-for-good = sie braucht { $needed } MiB Arbeitsspeicher, und den Apps ihres Projekts stehen zusammen { $limit } MiB zu: dem Launcher eine kleinere Ressourcenklasse geben, oder die Administration um ein höheres Limit bitten
not-started = sie konnte nicht gestartet werden
start-as-root = der Launcher sagt, dass das Image als root (Benutzer-ID 0) läuft, was auch root des Kernels dieser Maschine ist: eine andere Benutzer-ID geben, oder keine
start-bad-argument = ein Argument des Befehls enthält ein NUL-Byte
start-bad-variable = die Variable `{ $variable }` kann nicht gesetzt werden: Namen dürfen nicht leer sein und kein `=` enthalten, und beide kein NUL-Byte
start-elsewhere = ihre Container laufen nicht auf dieser Maschine: Das Gateway erreicht sie nicht
start-ended-at-once = es endete sofort: { $why }
start-engine = { $why }; die Betreiber dieser Installation bitten, danach zu sehen
start-no-artefact = das Ergebnis ihres Builds ({ $build }) ist nicht mehr da; neu bauen
start-no-command = nichts sagt, wie sie gestartet wird: dem Launcher einen Befehl geben, oder dem Code ein `Procfile` mit einer Zeile `web: …`
start-no-engine = Container-Images können hier nicht laufen: Diese Installation hat keine Container-Engine
start-no-gpus = ihre Ressourcenklasse hat GPUs, die nur Container bekommen können: eine andere Klasse wählen, oder den Code von einem Dockerfile bauen lassen
start-no-gpus-here = ihre Ressourcenklasse hat GPUs, und die Container-Engine hat keine zu geben: eine andere Klasse wählen, oder die Betreiber bitten, sie einzurichten (sie sagt: { $words })
start-no-image = ihr Image ({ $build }) ist nicht mehr da; neu bauen
start-no-network = ihr Netzwerk konnte nicht angelegt werden: { $why }
start-no-port = kein Port ist frei
start-no-process = das Ergebnis ihres Builds ({ $build }) ist kein Programm dieser Maschine; neu bauen
start-no-program = es gibt kein Programm `{ $program }`
start-no-user = das Image sagt, dass es als ein Benutzer läuft, den es nicht hat: dem Launcher eine Benutzer-ID geben
start-not-executable = `{ $program }` im Image darf von dem Benutzer, als der es läuft, nicht ausgeführt werden
start-not-in-image = es gibt kein Programm `{ $program }` im Image
start-port-in-use = Port { $port } ist belegt: Ein Programm mit festem Port kann nur einmal laufen, und nur solange nichts anderes ihn hat
start-secret-reader = ihr Launcher bekommt Geheimnisse als Dateien, aber hier kann niemand sagen, welcher Benutzer des Images sie lesen soll: dem Launcher eine Benutzer-ID geben, oder die Geheimnisse als Variablen
start-step-port = Wartet auf ihren Port
start-step-preparing = Bereitet ihre Dateien vor
start-wrong-machine = `{ $program }` ist nicht für diese Maschine gemacht, die { $machine } ist
step-building = Wird gebaut
step-building-at = Wird gebaut: { $step }
update-failed-goes-on = Revision { $number } konnte nicht gestartet werden ({ $why }), darum läuft Revision { $earlier } weiter
why-first-boot = eine neue Revision muss zeigen, dass sie startet
why-foreseen = ein Besuch ist zu erwarten: in { $percent } % solcher Fälle kam jemand
why-idle = niemand benutzt sie
why-load = { $demand } { $of ->
    [sessions] offene Sitzungen
   *[requests] Anfragen zugleich
    } über { $seconds } s, Ziel { $target } je Replik{ $rise ->
    [sudden] , ein plötzlicher Anstieg
   *[none] {""}
    }{ $bound ->
    [most] , ihr Höchstmaß
    [least] , ihr Mindestmaß
    [rate] , Schritt für Schritt
    [share] , ihr Anteil an der Maschine
   *[none] {""}
    }
why-minimum = ihr Mindestmaß an Repliken bleibt wach
why-off = die App ist aus
why-schedule = sie wird zu dieser Zeit warmgehalten
why-still-warm = sie wurde eben noch benutzt
