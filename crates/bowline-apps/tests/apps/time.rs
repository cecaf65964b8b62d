use std::process::Command;

use bowline_apps::Time;
use bowline_client::{Dialect, Message};

use crate::harness::*;

#[tokio::test]
async fn a_board_learns_the_time_best_effort_and_qos() {
    let server = server().app(5, "time", Time::new("+01:00".parse().unwrap())).start().await.unwrap();
    for (id, dialect) in [("n", Dialect::Native), ("h", Dialect::Headers)] {
        let board = Board::speaks(&server, id, 5, dialect);
        soon(board.client.connected()).await.unwrap();
        let before = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
        soon(board.client.send_best_effort(Message::on_channel(5, 0, 8, b"[41, 1970]"))).await.unwrap();
        let (_, tag, answer) = board.gets().await;
        let after = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let now = u128::from(answer[1].as_u64().unwrap());
        assert!(tag == 8 && answer[0] == 41 && (before..=after).contains(&now), "{answer}");
        assert_eq!((&answer[2], &answer[3]), (&3600.into(), &serde_json::Value::Null));
        board.sends(0, 9, "soon").await;
        assert_eq!(board.gets_json().await["error"], "bad-request");
    }
}

/// The snippet of `docs/apps/time.md`, on a board whose clock wraps around and whose link has delays of every kind.
#[test]
fn the_boards_formula_is_as_good_as_the_page_says() {
    let Some(micropython) = std::env::var_os("BOWLINE_MICROPYTHON") else {
        assert!(std::env::var_os("CI").is_none(), "CI must set BOWLINE_MICROPYTHON");
        eprintln!("skipped: BOWLINE_MICROPYTHON names no MicroPython (`cargo xtask test` installs one)");
        return;
    };
    let page = include_str!("../../../../docs/apps/time.md");
    let snippet = page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    // The board's clock is ours to move.
    let script = format!("{CLOCK}\n{}\n{DELAYS}", snippet.replace("import time\n", ""));
    let output = Command::new(micropython).args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "49 delays");
}

const CLOCK: &str = r"
class time:
    now = (1 << 30) - 700  # wraps around in the middle

    def ticks_ms():
        return time.now & ((1 << 30) - 1)

    def ticks_diff(a, b):
        return ((a - b + (1 << 29)) & ((1 << 30) - 1)) - (1 << 29)
";

const DELAYS: &str = r"
START = 828061199250 - 20000  # the server's time when the board's clock says 0
change = 828061200000
count = 0
for forth in (0, 1, 2, 40, 333, 500, 900):
    for back in (0, 1, 2, 40, 333, 500, 900):
        clock = WallClock()
        sent = json.loads(clock.request())
        assert sent[1] == 2000
        time.now += forth
        answer = json.dumps([sent[0], START + time.now, 3600, change + time.now, 7200])
        time.now += back
        good = clock.answer(answer)
        assert good == ((forth + back) // 2 <= 500), (forth, back)
        if good:
            wrong = abs(clock.utc() - (START + time.now))
            assert wrong <= clock.error <= (forth + back + 1) // 2, (forth, back, wrong)
            assert clock.local() - clock.utc() in (3600000, 7200000)
        count += 1

# Across the change, and on over it.
clock = WallClock()
sent = json.loads(clock.request())
clock.answer(json.dumps([sent[0], 1000, 3600, 1500, 7200]))
assert clock.local() == 3601000
time.now += 499
assert clock.local() == 3601499
time.now += 1
assert clock.local() == 7201500
assert not clock.answer(json.dumps({'error': 'no-time', 'detail': ''}))
assert clock.utc() == 1500
print(count, 'delays')
";
