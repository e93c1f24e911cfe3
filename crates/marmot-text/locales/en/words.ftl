### States, times, amounts, and what went wrong.

ago-days = { $count } days ago
ago-hours = { $count } h ago
ago-minutes = { $count } min ago
build-called-off = It was called off.
build-cancelled = Cancelled
build-cancelled-ago = Build cancelled { $ago }
build-failed-ago = Build failed { $ago }
building-now = Building now
built = Built
built-ago = Built { $ago }
built-from = Built { $ago } from { $commit }
copies-awake = { $count } copies are awake and answering.
date = { $day } { $month } { $year }
delete-no = Keep it
delete-yes = Yes, delete it
error-already-active = The launcher’s app is active already.
error-busy = Too many people sign in at this moment: try again in { $seconds } s.
error-disk-full = The server’s disk is full, so nothing was changed: its operator has to make room.
error-forbidden = You may not do this.
error-internal = The server could not do this; it has been noted in its log.
error-invalid-credentials = The token or session is not valid (any more).
error-link-spent = This link does not work: it was used already, or has expired; ask for another.
error-not-found = There is no such thing, or you may not see it.
error-sign-in-needed = You need to sign in for this.
error-stale = It was changed meanwhile: read it again and repeat the change.
error-too-many-tries = Too many tries: try again in { $seconds } s.
error-too-often = { $message } Try again in { $seconds } s, or { $otherwise }.
error-wrong-credentials = The user name or the password is wrong.
expired = expired
for-30-days = 30 days
for-90-days = 90 days
for-a-day = A day
for-a-week = A week
for-a-year = A year
for-until-revoked = Until it is revoked
go-home = Go home
gpus = { $count ->
    [one] , { $count } GPU
   *[other] , { $count } GPUs
    }
image-pushed = Its image is in the registry: { $image }
just-now = just now
memory-gb = { $count } GB
memory-mb = { $count } MB
month-1 = January
month-10 = October
month-11 = November
month-12 = December
month-2 = February
month-3 = March
month-4 = April
month-5 = May
month-6 = June
month-7 = July
month-8 = August
month-9 = September
never = never
no-resource-class = no resource class
on-date = on { $date }
once = once
people-using-now = { $count ->
    [one] { $count } person is using it now
   *[other] { $count } people are using it now
    }
phase-asleep = On, asleep
phase-building = Building
phase-building-about = Its environment is being built from code.
phase-failed = Failed
phase-failed-about = It cannot be opened.
phase-off = Off
phase-off-about = Nobody can open it.
phase-on = On
phase-on-about = Awake and answering.
phase-starting = Starting
phase-starting-about = It is booting.
phase-stopping = Shutting down
phase-stopping-about = The last requests are being answered.
phase-updating = On, updating
phase-updating-about = Stays open while its next version is being prepared.
phase-wakes = Wakes when somebody opens it.
phase-wakes-in = Wakes in about { $time } when somebody opens it.
phase-waking = On, waking
phase-waking-about = Somebody is opening it.
pull-cancelled = Pull cancelled { $ago }
pull-failed = Pull failed { $ago }
pulled = Pulled { $ago }
pulled-as = Pulled { $ago } as { $commit }
pulling-now = Pulling now
refused-a-moment = A moment, please
refused-conflict = That does not go together
refused-did-not-work = That did not work
refused-elsewhere = Not from here
refused-elsewhere-about = This request came from another site, so nothing was changed. Open Marmot at its own address and try again there.
refused-invalid = That cannot be done like this
refused-link-over = A link that is over
refused-no-such-page = There is no such page. It may have moved or been deleted.
refused-not-offered = Not offered here
refused-not-yours = Not yours to do
refused-nothing-here = Nothing here
refused-our-side = That went wrong on our side
refused-sign-in = Please sign in
refused-too-much = That was too much
refused-too-much-about = What was sent is longer than a form of ours can be, or broke off on the way.
role-editor = editor
role-owner = owner
role-viewer = viewer
shut-down-means = Nobody can open it until it is switched on again.
shut-down-nobody = Nobody is using this app right now.
shut-down-people = { $count ->
    [one] { $count } person is using this app now.
   *[other] { $count } people are using this app now.
    } Shutting it down disconnects them.
source-at = { $source } at { $revision }
switch-off-no = Leave it on
switch-off-title = Switch “{ $name }” off for everyone?
switch-off-yes = Yes, switch it off
switched-on = Switched on { $ago }
times = { $count } times
until-revoked = it is revoked
used-by-nobody = nobody
used-by-requests = { $count ->
    [one] { $count } request
   *[other] { $count } requests
    }
used-by-sessions = { $count ->
    [one] { $count } session
   *[other] { $count } sessions
    }
