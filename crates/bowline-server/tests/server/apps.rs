//! Apps: who gets which message, and what becomes of the others when one fails.

use std::time::Duration;

use bowline_server::{App, AppError, AppLimits, AppMessage, Handled, Instance, Port};

use crate::harness::*;

/// Sends back what comes, and ends.
struct Echo;

impl App for Echo {
    type Instance = Echo;

    fn instance(&self, _: Port) -> Echo {
        Echo
    }
}

impl Instance for Echo {
    async fn handle(&mut self, message: &AppMessage) -> Result<Handled, AppError> {
        Ok(Handled::reply(message.tag(), message.payload().to_vec()).and_end())
    }
}

#[tokio::test]
async fn an_app_gets_the_messages_of_its_ident_and_answers_on_their_channel() {
    let server = server().app(0, "echo", Echo).app(7, "other", Echo).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "kitchen").await;
    board.sends("000301070509\"21.5\"").await;
    board.expects("00002c").await;
    board.expects("000301070509\"21.5\"").await;
}

/// Needs something that is not there the first times it is asked.
struct Patient(u32);

impl App for Patient {
    type Instance = Patient;

    fn instance(&self, _: Port) -> Patient {
        Patient(self.0)
    }
}

impl Instance for Patient {
    async fn handle(&mut self, message: &AppMessage) -> Result<Handled, AppError> {
        if self.0 > 0 {
            self.0 -= 1;
            return Err(AppError::wait("it is away"));
        }
        Ok(Handled::reply(message.tag(), message.attempt().to_string()))
    }
}

#[tokio::test]
async fn a_message_that_waits_for_what_is_away_does_not_use_up_its_attempts() {
    let limits = AppLimits { attempts: 2, first_pause: Duration::from_millis(5), ..AppLimits::default() };
    let server = server().app(7, "patient", Patient(10)).app_limits(limits).start().await.unwrap();
    let mut board = Board::logs_in_h(&server, "kitchen").await;
    board.sends("000301070509\"21.5\"").await;
    board.expects("00002c").await;
    board.expects("0003010705091").await;
    assert_eq!(server.device("kitchen").await.unwrap().dead_letters(), []);
}
