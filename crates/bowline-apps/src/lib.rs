//! Bowline's built-in apps, which do on the server what boards cannot. Each is an
//! [`App`](bowline_server::App); `bowline serve` registers them as the configuration says.

mod echo;
pub mod http;
pub mod mqtt;
pub mod record;
pub mod relay;
pub mod time;

pub use echo::Echo;
pub use http::Http;
pub use mqtt::Mqtt;
pub use relay::Relay;
pub use time::Time;
