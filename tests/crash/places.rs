//! Where a world's daemons find the gateway and the receiver of their events.

use crate::processes::Home;

/// Few payments are in flight at once, and come in small batches, so that a death finds each step under way.
pub fn reach(home: &mut Home, gateway: &str, receiver: &str) {
    let secret = home.path("webhook");
    let text = format!(
        "[accounts.main]\nbase_url = \"{gateway}\"\nin_flight = 8\n[worker]\nbatch = 6\n\
         [[webhooks]]\nname = \"app\"\nurl = \"{receiver}\"\nsecret_file = \"{}\"\nallow_private = true\n",
        secret.display()
    );
    home.layer("places", &text);
}
