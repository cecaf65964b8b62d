//! The app on one channel of one device.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bowline_server::{AppError, AppMessage, DownReason, Handled, Instance, Port};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::command::{self, Command};
use super::hub::{self, Ask, Hub, Member, MemberId};
use super::shared::{Kind, Shared, count};
use super::topic;
use super::wire::Failure;

/// How long a message is waited for before the host is told that it has to wait. What the broker was asked
/// for goes on meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the end of an instance waits for the broker to have taken the will.
const FAREWELL: Duration = Duration::from_secs(3);
/// Pause before the broker is asked again for what an ended session has left undone.
const AGAIN: Duration = Duration::from_millis(50);

/// Handles the commands of a board. Made by [`Mqtt`](super::Mqtt).
pub struct MqttInstance {
    shared: Arc<Shared>,
    member: Membership,
    /// What the broker was asked for by the message with this number. It is not asked twice, however often
    /// the message is handled: the next time, this is waited for again.
    work: Option<(u64, Work)>,
}

type Work = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// A place on a connection, given up when it is dropped.
struct Membership {
    id: MemberId,
    hub: mpsc::UnboundedSender<hub::Command>,
    left: bool,
}

impl MqttInstance {
    pub(super) fn new(shared: &Arc<Shared>, id: MemberId, port: Port) -> Self {
        let client_id = shared.settings.client_id.replace(super::settings::DEVICE, port.device().id());
        let hub = Hub::join(shared, client_id, id, |commands| Member::new(shared, port, commands));
        MqttInstance { shared: Arc::clone(shared), member: Membership { id, hub, left: false }, work: None }
    }

    /// Tells the board and people, and keeps the message as a dead letter.
    fn refuse(&self, message: &AppMessage, reason: String) -> AppError {
        count(&self.shared.counters.refused);
        let port = message.port();
        self.shared.complain(Kind::Declined, || format!("{}: a command was refused: {reason}", port.device().id()));
        // The board may be gone, or have no room for it; its message is kept all the same.
        let error = command::error(message.tag(), &reason);
        let port = port.clone();
        tokio::spawn(async move {
            let _ = port.send_best_effort(command::ERROR, &error).await;
        });
        AppError::reject(reason)
    }
}

impl Instance for MqttInstance {
    async fn start(&mut self) -> Result<(), AppError> {
        self.member.tell(hub::Command::Up(self.member.id));
        Ok(())
    }

    async fn pause(&mut self, _: DownReason) {
        self.member.tell(hub::Command::Down(self.member.id));
    }

    async fn handle(&mut self, message: &AppMessage) -> Result<Handled, AppError> {
        let resumed = self.work.take_if(|(seq, _)| Some(*seq) == message.seq());
        let work = match resumed {
            Some((_, work)) => work,
            None => match Command::read(message.tag(), message.payload()) {
                Ok(command) => self.member.perform(command, message.is_qos()),
                Err(reason) => return Err(self.refuse(message, reason)),
            },
        };
        let result = match message.seq() {
            None => timeout(PATIENCE, work).await.map_err(|_| away())?,
            Some(seq) => {
                // In its place while it is waited for: the host may drop this call.
                let (_, work) = self.work.insert((seq, work));
                let result = timeout(PATIENCE, work).await.map_err(|_| away())?;
                self.work = None;
                result
            }
        };
        match result {
            Ok(()) => {
                if message.tag() == 1 {
                    count(&self.shared.counters.published);
                }
                Ok(Handled::done())
            }
            Err(Failure::Again) => Err(away()),
            Err(Failure::Busy(reason)) => Err(AppError::retry(reason)),
            Err(Failure::Refused(reason)) => Err(self.refuse(message, format!("the broker refused it: {reason}"))),
        }
    }

    async fn stop(&mut self) {
        let (left, gone) = oneshot::channel();
        self.member.left = true;
        self.member.tell(hub::Command::Leave { id: self.member.id, left: Some(left) });
        // Without a broker there is no one to tell.
        let _ = timeout(FAREWELL, gone).await;
    }
}

/// The message is not to blame, and waits.
fn away() -> AppError {
    AppError::wait("the broker has not answered yet")
}

impl Membership {
    fn tell(&self, command: hub::Command) {
        // The task is there as long as it has members.
        let _ = self.hub.send(command);
    }

    /// Does what the board wants; ready when the broker has done it.
    fn perform(&self, command: Command, qos: bool) -> Work {
        let (id, hub) = (self.id, self.hub.clone());
        Box::pin(async move {
            let ask = async |what: Ask| ask(&hub, id, what).await;
            match command {
                Command::Publish(publication) if qos => ask(Ask::Publish(publication)).await,
                Command::Publish(publication) => ask(Ask::PublishNow(publication)).await,
                Command::Will(will) => ask(Ask::Will(will)).await,
                Command::Welcome(welcome) => ask(Ask::Welcome(welcome)).await,
                Command::Unsubscribe { filters } => {
                    for filter in filters {
                        ask(Ask::Unsubscribe(filter)).await?;
                    }
                    Ok(())
                }
                Command::Subscribe { filters, states } => {
                    for filter in filters {
                        if let Some(state) = topic::state_of(&filter).filter(|_| states) {
                            let state = state.to_owned();
                            ask(Ask::FetchState { state: state.clone(), filter: filter.clone() }).await?;
                            ask(Ask::EndFetch { state }).await?;
                        }
                        ask(Ask::Subscribe(filter)).await?;
                    }
                    Ok(())
                }
            }
        })
    }
}

/// Asks until the broker has answered: what an ended session has left undone, the next one does.
async fn ask(hub: &mpsc::UnboundedSender<hub::Command>, id: MemberId, what: Ask) -> Result<(), Failure> {
    loop {
        let (reply, answer) = oneshot::channel();
        let command = hub::Command::Ask { id, ask: what.clone(), reply };
        if hub.send(command).is_err() {
            return Err(Failure::Again);
        }
        match answer.await {
            Ok(Err(Failure::Again)) | Err(_) => tokio::time::sleep(AGAIN).await,
            Ok(answer) => return answer,
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if !self.left {
            self.tell(hub::Command::Leave { id: self.id, left: None });
        }
    }
}
