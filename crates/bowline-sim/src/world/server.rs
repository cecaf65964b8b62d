//! The server's process.

use std::sync::Arc;
use std::time::Duration;

use bowline_server::{Admission, Server};
use tokio::sync::mpsc;

use super::host::{Host, Life, Order};
use super::sink::Sink;
use super::{Shared, TIMEOUT, talk};
use crate::net::Direction;

/// One life after the other.
pub(super) async fn keep(world: Shared, orders: mpsc::UnboundedReceiver<Order>) {
    let mut host = Host::new(Arc::clone(&world), 0, true, orders);
    loop {
        let mut life = Life::new();
        let Some(server) = starts(&mut host, &mut life).await else { return };
        for (device, nature) in world.natures.iter().enumerate() {
            let Ok(handle) = server.expect(&nature.id) else {
                world.fail(format!("the server does not take {}", nature.id));
                return;
            };
            let pulse = life.pulse();
            life.tasks.spawn(talk::sends(Arc::clone(&world), device, Direction::Down, handle.clone(), pulse.clone()));
            if !world.apps {
                life.tasks.spawn(talk::takes(Arc::clone(&world), device, Direction::Up, handle, pulse));
            }
        }
        let ending = host.suffers(&life).await;
        host.dies(&mut life, &ending);
        for device in 0..world.natures.len() {
            world.stream(device, Direction::Up, |stream| stream.receiver_dies());
            world.stream(device, Direction::Down, |stream| stream.sender_dies());
        }
        drop(server);
        life.tasks.shutdown().await;
        host.rests(ending).await;
    }
}

async fn starts(host: &mut Host, life: &mut Life) -> Option<Server> {
    let store = host.opens(life)?;
    let world = Arc::clone(&host.world);
    let limits = world.natures[0].limits;
    let keys = match world.provisioned.keys() {
        Ok(keys) => keys,
        Err(error) => {
            world.fail(format!("this machine, not the world: {error}"));
            return None;
        }
    };
    let builder = Server::builder()
        .listener(world.net.listen())
        .timeout(Duration::from_millis(TIMEOUT))
        .limits(limits)
        .admission(Admission { plain: vec!["p*".to_owned()], ..Admission::open() })
        .keys(keys)
        .handshakes(0, 1)
        .outside(crate::outside::outside())
        .store(store);
    let builder = if world.apps {
        let sink = Sink { world: Arc::clone(&world), pulse: life.pulse() };
        builder.app(talk::APP, "sink", sink).lines_app("sink")
    } else {
        builder
    };
    let damage = |server: &Server| {
        let mut devices = world.natures.iter().filter_map(|nature| server.expect(&nature.id).ok());
        devices.find_map(|device| device.damage().map(str::to_owned))
    };
    match builder.start().await {
        Ok(server) => match damage(&server) {
            None => {
                host.is_content();
                Some(server)
            }
            Some(damage) => {
                drop(server);
                if host.is_replaced(&damage) {
                    return Box::pin(starts(host, life)).await;
                }
                world.fail(format!("the server finds damage: {damage}"));
                None
            }
        },
        Err(error) if host.is_replaced(&error) => Box::pin(starts(host, life)).await,
        Err(error) => {
            world.fail(format!("the server does not start: {error}"));
            None
        }
    }
}
