//! The WiFi chip: loaded, joined, left.

use bowline_embedded::Network;
use cyw43::{A4, Aligned, Control, JoinOptions, PowerManagementMode};
use embassy_net::Stack;
use embassy_time::Timer;
use log::{info, warn};

use crate::settings::{NETWORK, PASSWORD};

/// What the chip runs, and what it has to know of the board; empty in an image that was built without.
pub(crate) static FIRMWARE: &Aligned<A4, [u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/43439A0.bin")));
pub(crate) static NVRAM: &Aligned<A4, [u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/nvram_rp2040.bin")));
/// Where in the world it may send how.
static CLM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/43439A0_clm.bin"));

/// What joins the WiFi, and gets an address there.
pub(crate) struct Wifi {
    control: Control<'static>,
    stack: Stack<'static>,
}

impl Wifi {
    pub(crate) async fn new(mut control: Control<'static>, stack: Stack<'static>) -> Self {
        control.init(CLM).await;
        control.set_power_management(PowerManagementMode::PowerSave).await;
        Wifi { control, stack }
    }
}

impl Network for Wifi {
    type Error = cyw43::JoinError;

    async fn join(&mut self) -> Result<(), Self::Error> {
        let options = if PASSWORD.is_empty() { JoinOptions::new_open() } else { JoinOptions::new(PASSWORD.as_bytes()) };
        self.control.join(NETWORK, options).await?;
        self.stack.wait_config_up().await;
        if let Some(config) = self.stack.config_v4() {
            info!("joined {NETWORK}, as {}", config.address);
        }
        Ok(())
    }

    async fn leave(&mut self) {
        self.control.leave().await;
    }

    fn is_up(&self) -> bool {
        self.stack.is_link_up() && self.stack.is_config_up()
    }

    async fn not_joined_yet(&mut self, attempts: u32) {
        warn!(
            "not in {NETWORK} after {attempts} attempts: is the name right, the password, and is it a WiFi of 2.4 GHz?"
        );
    }
}

/// Stops here if there is nothing to load the chip with, and says so until somebody reads it.
pub(crate) async fn has_firmware() {
    while FIRMWARE.is_empty() {
        warn!("built without CYW43_FIRMWARE: there is nothing to load the WiFi chip with, see README.md");
        Timer::after_secs(5).await;
    }
}
