//! `once` with a hand-over: its token lives on only where the next process can find it.

use super::acts::how;
use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn once_hands_over_or_revokes_and_its_exit_code_tells(
        dice: u64,
        ends in prop::collection::vec((any::<usize>(), how()), 1..60),
    ) {
        let mut world = World::new(dice, Mode::Once { deadline: Duration::from_secs(600), hand_over: true });
        world.step(Event::Woke);
        for (pick, how) in &ends {
            if world.over {
                break;
            }
            world.end(*pick, how);
            if !world.over {
                world.pass(1000);
            }
        }
        if world.draining && !world.over {
            world.pass(10_000);
            prop_assert!(world.over, "once did not end within its time");
        }
        if world.over {
            let (handing, left) = (world.token.contains("handing over"), world.token.contains("handed over"));
            prop_assert!(!handing || (world.code == Some(0)) == left, "code {:?}, {:?}", world.code, world.token);
            prop_assert!(!(left && world.token.contains("revoking")), "a token that was handed over was revoked");
        }
    }
}
