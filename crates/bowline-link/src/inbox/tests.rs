use super::*;

/// An inbox with messages 1 to `count` of dialect N, all durable.
fn inbox(count: u64) -> Inbox {
    let mut inbox = Inbox::new(256, 1 << 20, 8);
    for seq in 1..=count {
        inbox.accept_native(seq, native::Ticket::stored(1, seq), Message::new(seq.to_string()));
    }
    inbox.handle_durable(count);
    inbox
}

fn takes(inbox: &mut Inbox, count: usize) -> Vec<Message> {
    (0..count).map_while(|_| inbox.take(false)).collect()
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.text().unwrap()).collect()
}

#[test]
fn the_cursor_stands_before_the_oldest_that_is_not_handled() {
    let mut inbox = inbox(4);
    assert_eq!(takes(&mut inbox, 4).len(), 4);
    inbox.handled(3);
    inbox.handled(2);
    assert_eq!((inbox.processed(), inbox.take_taken()), (0, vec![3, 2]));
    inbox.handled(1);
    assert_eq!(inbox.processed(), 3);
    assert_eq!(inbox.native_processed().map(native::Ticket::seq), Some(3));
    inbox.handled(3);
    inbox.handled(4);
    assert_eq!((inbox.processed(), inbox.take_taken(), inbox.take_handled()), (4, vec![], 4));
}

#[test]
fn what_is_put_back_comes_in_its_place_and_holds_the_cursor() {
    let mut inbox = inbox(4);
    let mut out = takes(&mut inbox, 3);
    let third = out.pop().unwrap();
    let second = out.pop().unwrap();
    inbox.put_back(second);
    inbox.handled(1);
    assert_eq!(inbox.processed(), 1);
    inbox.handled(3);
    assert_eq!((inbox.processed(), inbox.take_taken()), (1, vec![3]), "2 is not handled");
    drop(third);
    assert_eq!(texts(&takes(&mut inbox, 4)), ["2", "4"]);
    inbox.handled(2);
    assert_eq!(inbox.processed(), 3);
}

#[test]
fn what_is_put_back_in_any_order_comes_in_order() {
    let mut inbox = inbox(5);
    let mut out = takes(&mut inbox, 4);
    for at in [2, 0, 1, 0] {
        inbox.put_back(out.remove(at));
    }
    assert_eq!(texts(&takes(&mut inbox, 9)), ["1", "2", "3", "4", "5"]);
}

#[test]
fn asking_for_the_next_handles_only_what_was_taken_that_way() {
    let mut inbox = inbox(4);
    inbox.take(true);
    inbox.take(false);
    inbox.take(true);
    assert!(inbox.handled_until_next() && !inbox.handled_until_next());
    assert_eq!((inbox.processed(), inbox.take_taken()), (1, vec![3]));
    inbox.handled(2);
    assert_eq!(inbox.processed(), 3);
}

#[test]
fn nothing_is_handed_out_before_it_is_durable() {
    let mut inbox = inbox(1);
    inbox.accept_native(2, native::Ticket::stored(1, 2), Message::new("2"));
    assert_eq!(texts(&takes(&mut inbox, 2)), ["1"]);
    assert!(inbox.handle_durable(2));
    assert_eq!(texts(&takes(&mut inbox, 2)), ["2"]);
}

#[test]
fn a_gap_is_told_by_the_message_behind_it_also_after_a_restart() {
    let mut inbox = inbox(2);
    inbox.accept_native(6, native::Ticket::stored(1, 6), Message::new("6"));
    inbox.handle_durable(6);
    assert_eq!(takes(&mut inbox, 3).iter().map(Message::gap).collect::<Vec<_>>(), [0, 0, 3]);

    let mut inbox = Inbox::new(256, 1 << 20, 8);
    inbox.start_behind(2, 2);
    inbox.accept_native(6, native::Ticket::stored(1, 6), Message::new("6"));
    inbox.handle_durable(6);
    assert_eq!(inbox.take(false).map(|message| message.gap()), Some(3));
}

#[test]
fn best_effort_is_neither_stored_nor_counted() {
    let mut inbox = inbox(1);
    assert!(inbox.accept_best_effort(Message::new("now")));
    assert_eq!(inbox.behind(0).count(), 1);
    let out = takes(&mut inbox, 2);
    inbox.put_back(out[1].clone());
    assert_eq!(texts(&takes(&mut inbox, 1)), ["now"]);
    assert_eq!(inbox.processed(), 0);
}

#[test]
fn what_the_application_holds_takes_up_room_until_it_is_handled() {
    let mut inbox = inbox(6);
    let all = inbox.room(16).messages;
    let out = takes(&mut inbox, 6);
    assert_eq!((inbox.room(16).messages, inbox.len(), inbox.held()), (all, 6, 6), "in hand is not handled");
    inbox.handled(2);
    inbox.handled(2);
    assert_eq!((inbox.room(16).messages, inbox.held()), (all + 1, 5), "once");
    inbox.put_back(out[0].clone());
    assert_eq!((inbox.room(16).messages, inbox.held()), (all + 1, 4));
    takes(&mut inbox, 1);
    for seq in 1..=6 {
        inbox.handled(seq);
    }
    assert_eq!((inbox.room(16).messages, inbox.room(16).bytes, inbox.held()), (256, 1 << 20, 0));
}

#[test]
fn one_that_takes_long_costs_no_memory_for_those_behind_it() {
    let mut inbox = inbox(200);
    takes(&mut inbox, 200);
    for seq in (3..=200).rev().chain([2]) {
        inbox.handled(seq);
    }
    assert_eq!((inbox.out.len(), inbox.processed()), (2, 0));
    inbox.handled(1);
    assert_eq!((inbox.out.len(), inbox.processed(), inbox.take_handled()), (0, 200, 200));
    assert_eq!(inbox.native_processed().map(native::Ticket::seq), Some(200));
}
