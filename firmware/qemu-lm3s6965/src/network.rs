//! The board's network: embassy-net on its Ethernet controller, with an address by DHCP.

use core::convert::Infallible;

use bowline_coprocessor::Access;
use bowline_embedded::{FrameFilter, Network};
use bowline_emulated::host::{self, say};
use embassy_executor::{Spawner, task};
use embassy_net::{DhcpConfig, Stack, StackResources};
use embassy_time::Instant;
use static_cell::StaticCell;

use crate::ethernet::{self, Ethernet};
use crate::{Interrupt, lets_through};

/// Bytes of each of the buffers of a connection.
pub const STREAM: usize = 1024;

/// Starts it. To be called once.
pub fn starts(spawner: Spawner) -> Stack<'static> {
    let mut seed = [0; 8];
    host::random(&mut seed);
    static SOCKETS: StaticCell<StackResources<2>> = StaticCell::new();
    let config = embassy_net::Config::dhcpv4(DhcpConfig::default());
    let sockets = SOCKETS.init(StackResources::new());
    let (stack, network) =
        embassy_net::new(FrameFilter::new(Ethernet::new()), config, sockets, u64::from_le_bytes(seed));
    lets_through(Interrupt(ethernet::INTERRUPT));
    spawner.spawn(networks(network).expect("spawned once"));
    stack
}

#[task]
async fn networks(mut runner: embassy_net::Runner<'static, FrameFilter<Ethernet>>) -> ! {
    runner.run().await
}

/// The cable: the board has joined when it has an address.
pub struct Wire(pub Stack<'static>);

impl Network for Wire {
    type Error = Infallible;

    async fn join(&mut self) -> Result<(), Infallible> {
        self.0.wait_config_up().await;
        if let Some(config) = self.0.config_v4() {
            say(format_args!("address {} after {} ms", config.address, Instant::now().as_millis()));
        }
        Ok(())
    }

    async fn leave(&mut self) {}

    fn is_up(&self) -> bool {
        self.0.is_config_up()
    }
}

/// As a co-processor's: whatever the network is called.
impl Access for Wire {
    type Error = Infallible;

    async fn join(&mut self, ssid: &str, _: &str) -> Result<(), Infallible> {
        say(format_args!("joins {ssid}"));
        Network::join(self).await
    }

    async fn leave(&mut self) {}

    fn is_up(&self) -> bool {
        Network::is_up(self)
    }
}
