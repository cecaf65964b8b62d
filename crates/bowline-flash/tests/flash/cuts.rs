//! Power cuts.

use bowline_flash::sim::Tear;

use crate::world::World;

pub(crate) const TEARS: [Tear; 4] = [Tear::Clean, Tear::Half, Tear::Unstable, Tear::UnstableCall];

/// Cuts with words of 1, 4, 8 and 32 bytes.
const CUTS: [u64; 4] = [101_000; 4];
const _: () = assert!(CUTS[0] + CUTS[1] + CUTS[2] + CUTS[3] >= 400_000);

/// Lives of a board, the last of which is repeated with the power cut at each byte that it writes or erases.
fn cuts_everywhere<const READ: usize, const WRITE: usize, const PAGE: usize>(
    pages: usize,
    slots: usize,
    seed: u64,
) -> u64 {
    let mut world = World::<READ, WRITE, PAGE>::new(pages, slots, seed);
    world.nor.tears(TEARS[(seed % 4) as usize]);
    for _ in 0..world.rng.below(6) {
        let cut = world.rng.below(6 * PAGE as u64);
        world.nor.cuts_after(cut);
        world.lives(60);
        world.nor.power_on();
    }
    let mut cuts = 0;
    loop {
        let mut copy = world.clone();
        copy.nor.seed(seed << 32 | cuts);
        copy.nor.cuts_after(cuts);
        let survived = copy.lives(12);
        assert_eq!(copy.nor.is_off(), !survived, "nothing but the power ends a life");
        copy.nor.power_on();
        copy.ends();
        if survived {
            return cuts;
        }
        cuts += 1;
    }
}

/// Runs seeds until there were so many cuts.
pub(crate) fn seeds(name: &str, wanted: u64, mut cuts_of: impl FnMut(u64) -> u64) {
    struct Report<'a>(&'a str, u64);
    impl Drop for Report<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("{}: seed {1} failed; BOWLINE_SEED={1} replays it", self.0, self.1);
            }
        }
    }
    if let Ok(seed) = std::env::var("BOWLINE_SEED") {
        let seed = seed.parse().expect("a number");
        let _report = Report(name, seed);
        println!("{name}: seed {seed}, {} cuts", cuts_of(seed));
        return;
    }
    let (mut cuts, mut seed) = (0, 0);
    while cuts < wanted {
        let report = Report(name, seed);
        cuts += cuts_of(seed);
        drop(report);
        seed += 1;
    }
    println!("{name}: {cuts} cuts, seeds 0 to {}", seed - 1);
}

#[test]
fn a_cut_at_any_byte_with_words_of_one_byte() {
    seeds("words of 1", CUTS[0], |seed| cuts_everywhere::<1, 1, 512>(5, 12, seed));
}

#[test]
fn a_cut_at_any_byte_with_words_of_four_bytes() {
    seeds("words of 4", CUTS[1], |seed| cuts_everywhere::<4, 4, 512>(4, 6, seed));
}

#[test]
fn a_cut_at_any_byte_with_words_of_eight_bytes() {
    seeds("words of 8", CUTS[2], |seed| cuts_everywhere::<1, 8, 512>(9, 16, seed));
}

#[test]
fn a_cut_at_any_byte_with_words_of_32_bytes() {
    seeds("words of 32", CUTS[3], |seed| cuts_everywhere::<1, 32, 1024>(6, 10, seed));
}
