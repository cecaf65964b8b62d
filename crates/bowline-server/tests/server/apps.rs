//! Apps: who gets which message, and what becomes of the others when one fails.

use bowline_server::{App, AppError, AppMessage, Handled, Instance, Port};

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
