//! What is the same in every copy of the program but not on every desk: given when it is built.

/// The WiFi's name.
pub(crate) const NETWORK: &str = env!("WIFI_NETWORK", "set WIFI_NETWORK to the name of the WiFi, see README.md");
/// Its password; empty if it has none.
pub(crate) const PASSWORD: &str = env!("WIFI_PASSWORD", "set WIFI_PASSWORD to that of the WiFi, see README.md");
/// Where the server is, as an address and a port: there is no name service on the board.
pub(crate) const SERVER: &str =
    env!("BOWLINE_SERVER", "set BOWLINE_SERVER, for example to 192.168.0.41:9999, see README.md");
/// Who the board is: the line that `bowline key new` prints.
pub(crate) const KEY: &str =
    env!("BOWLINE_KEY", "set BOWLINE_KEY to the line that `bowline key new NAME` prints, see README.md");
/// The app that its messages are for; 0 is the server's default.
pub(crate) const APP: u8 = 0;
