//! The echo app: what comes goes back.

use bowline_server::{App, AppError, AppMessage, Handled, Instance, Port};

/// Sends every message back as it came, exactly once, after which the instance ends. Its ident is 0 by
/// custom of the boards in the field.
#[derive(Debug, Clone, Copy, Default)]
pub struct Echo;

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
