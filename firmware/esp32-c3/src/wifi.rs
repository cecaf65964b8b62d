//! The WiFi, joined and left.

use bowline_embedded::Network;
use embassy_net::Stack;
use esp_println::println;
use esp_radio::wifi::sta::StationConfig;
use esp_radio::wifi::{AuthenticationMethodConfig, Config, ConnectionError, WifiController};

use crate::settings::{NETWORK, PASSWORD};

/// What joins the WiFi, and gets an address there.
pub(crate) struct Wifi {
    controller: WifiController<'static>,
    stack: Stack<'static>,
}

impl Wifi {
    pub(crate) fn new(mut controller: WifiController<'static>, stack: Stack<'static>) -> Self {
        let authentication = if PASSWORD.is_empty() {
            AuthenticationMethodConfig::Open
        } else {
            AuthenticationMethodConfig::WpaWpa2Personal(PASSWORD.try_into().expect("a password has 64 bytes at most"))
        };
        let station = StationConfig::default()
            .with_ssid(NETWORK.try_into().expect("a WiFi's name has 32 bytes at most"))
            .with_authentication(authentication);
        controller.set_config(&Config::Station(station)).expect("a name and a password as they can be");
        Wifi { controller, stack }
    }
}

impl Network for Wifi {
    type Error = ConnectionError;

    async fn join(&mut self) -> Result<(), Self::Error> {
        self.controller.connect_async().await?;
        self.stack.wait_config_up().await;
        if let Some(config) = self.stack.config_v4() {
            println!("joined {NETWORK}, as {}", config.address);
        }
        Ok(())
    }

    async fn leave(&mut self) {
        // One that was not joined cannot be left.
        let _ = self.controller.disconnect_async().await;
    }

    fn is_up(&self) -> bool {
        self.controller.is_connected() && self.stack.is_config_up()
    }

    fn signal(&self) -> Option<i8> {
        self.controller.rssi().ok().and_then(|signal| signal.try_into().ok())
    }

    async fn not_joined_yet(&mut self, attempts: u32) {
        println!(
            "not in {NETWORK} after {attempts} attempts: is the name right, the password, and is it a WiFi of 2.4 GHz?"
        );
    }
}
