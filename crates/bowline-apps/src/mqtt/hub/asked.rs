//! What instances ask of the broker.

use super::member::MemberId;
use super::{Ask, Done, Failure, Hub, Qos, Reply};
use crate::mqtt::settings::{BoardDown, Connection};

impl Hub {
    pub(super) fn asked(&mut self, id: MemberId, ask: Ask, reply: Reply) {
        let keep = self.shared.settings.board_down == BoardDown::Keep;
        let Some(member) = self.members.get_mut(&id) else {
            let _ = reply.send(Ok(()));
            return;
        };
        let there = member.up || keep;
        let qos = self.shared.settings.qos;
        match &ask {
            Ask::Publish(_) => {}
            Ask::PublishNow(publication) => {
                let publication = member.full(publication);
                let now = match &self.requests {
                    Some(requests) if self.connected => {
                        drop(requests.publish(&publication, Qos::AtMostOnce));
                        Ok(())
                    }
                    _ => Err(Failure::Busy("there is no connection to the broker".to_owned())),
                };
                let _ = reply.send(now);
                return;
            }
            // A board that is away says all of this again when it is back.
            _ if !there => {
                let _ = reply.send(Ok(()));
                return;
            }
            _ => {}
        }
        member.active |= there;
        let (outcome, done) = match ask {
            Ask::PublishNow(_) => return,
            Ask::Will(will) => {
                member.will = will;
                let will = member.full_will();
                let registers = self.shared.settings.connection == Connection::Device;
                if registers && self.requests.is_some() && self.registered != will {
                    self.close();
                }
                let _ = reply.send(Ok(()));
                return;
            }
            Ask::Publish(publication) => {
                let publication = member.full(&publication);
                (self.ready().publish(&publication, qos), Done::Nothing)
            }
            Ask::Welcome(publication) => {
                let full = member.full(&publication);
                member.welcome = Some(publication);
                member.welcomed = false;
                (self.ready().publish(&full, qos), Done::Welcomed(id))
            }
            Ask::Subscribe(filter) => {
                let full = member.subscribe(filter);
                (self.ready().subscribe(&full, qos), Done::Subscribed(id, full))
            }
            Ask::Unsubscribe(filter) => {
                let full = member.unsubscribe(&filter);
                if self.is_subscribed(&full) {
                    let _ = reply.send(Ok(()));
                    return;
                }
                (self.ready().unsubscribe(&full), Done::Nothing)
            }
            Ask::FetchState { state, filter } => {
                let full = member.fetch(&state, filter);
                (self.ready().subscribe(&full, qos), Done::Nothing)
            }
            Ask::EndFetch { state } => {
                let full = member.full_topic(&state);
                if self.is_subscribed(&full) {
                    // The subscription that was there before stays, and brings what comes late.
                    self.done(Done::Fetched(id, full));
                    let _ = reply.send(Ok(()));
                    return;
                }
                (self.ready().unsubscribe(&full), Done::Fetched(id, full))
            }
        };
        self.do_for(reply, outcome, done);
    }
}
