//! A device's process.

use std::sync::Arc;
use std::time::Duration;

use bowline_client::{Client, Next};
use tokio::sync::mpsc;

use super::host::{Host, Life, Order};
use super::{Shared, TIMEOUT, talk};
use crate::model::Keeps;
use crate::net::Direction;

/// One life after the other.
pub(super) async fn keep(world: Shared, device: usize, orders: mpsc::UnboundedReceiver<Order>) {
    let keeps = world.natures[device].keeps;
    let mut host = Host::new(Arc::clone(&world), device + 1, keeps == Keeps::All, orders);
    loop {
        let mut life = Life::new();
        let Some(client) = starts(&mut host, device, &mut life) else { return };
        let pulse = life.pulse();
        life.tasks.spawn(talk::sends(Arc::clone(&world), device, Direction::Up, client.clone(), pulse.clone()));
        life.tasks.spawn(talk::takes(Arc::clone(&world), device, Direction::Down, client.clone(), pulse.clone()));
        life.tasks.spawn(follows(Arc::clone(&world), device, client.clone()));
        let ending = host.suffers(&life).await;
        host.dies(&mut life, &ending);
        world.stream(device, Direction::Up, |stream| stream.sender_dies());
        world.stream(device, Direction::Down, |stream| stream.receiver_dies());
        drop(client);
        life.tasks.shutdown().await;
        host.rests(ending).await;
    }
}

fn starts(host: &mut Host, device: usize, life: &mut Life) -> Option<Client> {
    let store = host.opens(life);
    let world = Arc::clone(&host.world);
    let nature = &world.natures[device];
    if nature.keeps == Keeps::All && store.is_none() {
        return None;
    }
    let (net, told) = (world.net.clone(), Arc::clone(&world));
    let mut builder = Client::builder(nature.id.as_str(), "server:9999")
        .dialect(nature.dialect)
        .timeout(Duration::from_millis(TIMEOUT))
        .limits(nature.limits)
        .outside(crate::outside::outside())
        .connect(move |_| net.connect(device))
        .on_failure(move |attempt| {
            told.says("no link", || format!("d{device} {}", attempt.error));
            Next::Retry
        });
    if let Some(key) = &nature.key {
        builder = match builder.key(key) {
            Ok(builder) => builder,
            Err(error) => {
                world.fail(format!("d{device}: {error}"));
                return None;
            }
        };
    }
    if let Some(store) = store {
        builder = builder.store(store);
    }
    match builder.start() {
        Ok(client) => {
            host.is_content();
            Some(client)
        }
        Err(error) if host.is_replaced(&error) => starts(host, device, life),
        Err(error) => {
            world.fail(format!("d{device}: the client does not start: {error}"));
            None
        }
    }
}

/// Writes down when links come and go.
async fn follows(world: Shared, device: usize, client: Client) {
    let mut watch = client.watch();
    drop(client);
    while let Some(status) = watch.changed().await {
        if status.is_up() {
            world.lock().connects += 1;
        }
        let healing = world.lock().quiet && world.natures[device].key.is_some();
        if healing && format!("{:?}", status.link).contains("Peer(3)") {
            world.fail(format!("d{device}: somebody without its key has taken its session"));
        }
        let kind = if status.is_up() { "up" } else { "down" };
        world.says(kind, || format!("d{device} {:?}", status.link));
    }
}
