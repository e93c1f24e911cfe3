### What administrators see: the server, people, the audit.

accounts = Accounts
admin-apps-on = Apps that are on
admin-budget = All replicas together may hold { $budget }. Beyond that, those that sleep are stopped, starting with those that are cheap to start again and seldom used.
admin-doctor-says = says what to do.
admin-everything-else = Everything else
admin-evictions = Stopped to make room
admin-free = Free
admin-hibernated = { $count ->
    [one] Hibernated ({ $count } replica)
   *[other] Hibernated ({ $count } replicas)
    }
admin-hibernated-replicas = Hibernated replicas
admin-lead = What its memory is used for, and every app that is on.
admin-no-evictions = None lately: there was memory for all that slept.
admin-no-swap = There is no swap, so hibernated replicas keep their memory.
admin-replicas-asleep = { $asleep } asleep
admin-replicas-none = none
admin-running = { $count ->
    [one] Running ({ $count } replica)
   *[other] Running ({ $count } replicas)
    }
admin-shut-down-app = Shut down { $name }
admin-sleep = Sleep
admin-sleep-app = Sleep: { $name }
app = App
apps = Apps
apps-none-found = No app that is on is like that.
apps-none-on = No app is on right now.
audit-export = Export as JSON lines
audit-from = From
audit-label = What was done, newest first
audit-to = To
audit-what = What
audit-when = When
audit-who = Who
back = Back
count-people = { $count ->
    [one] { $count } person
   *[other] { $count } people
    }
default = default
email = E-mail
email-address = E-mail address
may = May
may-nothing = nothing: disabled
may-run-server = run this server
may-use-server = use this server
memory = Memory
more = More
nothing-yet = Nothing yet.
pages-of-apps = Pages of apps
people = People
people-add = Add a person
people-delete-name = Delete { $username }
people-delete-title = Delete the account of { $username }?
people-delete-warning = What is known of the person goes with it. What the person did stays in the audit. This cannot be undone.
people-disable = Disable
people-disable-name = Disable { $username }
people-enable = Enable
people-enable-name = Enable { $username }
people-lead = Everybody with an account on this server.
people-link-about = to choose a password. It works once, within a day, and is not shown again.
people-link-for = A link for { $username }
people-make-admin = Make administrator
people-make-admin-name = Make administrator: { $username }
people-no-admin = No administrator
people-no-admin-name = No administrator: { $username }
people-password-link = Password link
people-password-link-for = Password link for { $username }
people-username-help = Letters a-z, digits and hyphens.
replicas = Replicas
replicas-awake = { $awake } awake
replicas-awake-asleep = { $awake } awake, { $asleep } asleep
resource-classes = Resource classes
resource-classes-about = What a replica may use. They are set in the server’s configuration.
search = Search
seek-placeholder = Name, description or project
seek-words = Words in name, description or project
show-all = Show all
shut-down = Shut down
since = Since
state = State
swap = Swap
this-server = This server
what-can-be-done = What can be done
who-did-what = Who did what
