//! Boards send temperatures, and hear whether their fan is to run.

use bowline_server::{App, AppError, AppMessage, Handled, Instance, Port, Server};

struct Fan;

impl App for Fan {
    type Instance = Room;

    fn instance(&self, _: Port) -> Room {
        Room { average: None }
    }
}

struct Room {
    average: Option<f64>,
}

impl Instance for Room {
    async fn handle(&mut self, message: &AppMessage) -> Result<Handled, AppError> {
        let Some(degrees) = message.text().and_then(|text| text.trim().parse::<f64>().ok()) else {
            return Err(AppError::reject("expected degrees Celsius, for example 21.5"));
        };
        let average = self.average.map_or(degrees, |average| 0.8 * average + 0.2 * degrees);
        self.average = Some(average);
        Ok(Handled::reply(message.tag(), if average > 25.0 { "1" } else { "0" }))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let builder = Server::builder().listen("127.0.0.1:9999".parse()?);
    let _server = builder.app(10, "fan", Fan).lines_app("fan").start().await?;
    std::future::pending().await
}
