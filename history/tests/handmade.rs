//! Small histories made by hand, each with the reason for its verdict. The drawings are explained
//! in `notation`.

mod brute;
mod notation;

use notation::history;
use quorate_history::{Verdict, check};

/// What is expected, why, and the drawing.
type Case = (bool, &'static str, &'static str);

const GOOD: bool = true;
const WRONG: bool = false;

const CASES: &[Case] = &[
    (GOOD, "nothing happened", ""),
    (GOOD, "a fresh key is absent", "1: [get -]"),
    (WRONG, "nobody wrote this value", "1: [get a]"),
    (GOOD, "one after the other", "1: [put a] [get a]"),
    (WRONG, "the put had returned", "1: [put a] [get -]"),
    (WRONG, "the second put had returned", "1: [put a] [put b] [get a]"),
    (
        GOOD,
        "a get during the put may see it",
        "1: [put a     ]
         2:    [get a]",
    ),
    (
        GOOD,
        "a get during the put may miss it",
        "1: [put a     ]
         2:    [get -]",
    ),
    (
        WRONG,
        "seen once, the put cannot be missed by a later get",
        "1: [put a                ]
         2:   [get a] [get -]",
    ),
    (
        WRONG,
        "the same when another client misses it",
        "1: [put a                ]
         2:   [get a]
         3:           [get -]",
    ),
    (
        GOOD,
        "two gets at once may see the put in either order",
        "1: [put a                ]
         2:   [get a ]
         3:      [get -]",
    ),
    (
        GOOD,
        "concurrent puts take either order: a last",
        "1: [put a   ]
         2:   [put b  ]
         3:             [get a]",
    ),
    (
        GOOD,
        "concurrent puts take either order: b last",
        "1: [put a   ]
         2:   [put b  ]
         3:             [get b]",
    ),
    (
        WRONG,
        "two readers see two puts in opposite orders",
        "1: [put a           ]
         2: [put b           ]
         3:   [get a] [get b]
         4:   [get b] [get a]",
    ),
    (
        WRONG,
        "after both puts the value cannot change",
        "1: [put a   ]
         2:   [put b  ]
         3:             [get a] [get b]",
    ),
    (
        WRONG,
        "a value that was overwritten comes back",
        "1: [put a] [put b]
         2:                 [get b] [get a]",
    ),
    (
        GOOD,
        "the same value put twice may come back",
        "1: [put a] [put b]
         2:          [get b] [get a]
         3:              [put a   ]",
    ),
    (
        WRONG,
        "a get returns before the put of its value begins",
        "1:          [put a]
         2: [get a]",
    ),
    (
        GOOD,
        "answer and question at one moment are concurrent",
        "1: [put a]
         2:       [get -]",
    ),
    (GOOD, "an append makes the key", "1: [append a] [get a]"),
    (GOOD, "appends add up", "1: [append a] [append b] [get ab]"),
    (WRONG, "appends keep their order", "1: [append a] [append b] [get ba]"),
    (WRONG, "an append happened twice", "1: [append a] [get aa]"),
    (WRONG, "an append was lost", "1: [append a] [append b] [get b]"),
    (
        GOOD,
        "concurrent appends take either order",
        "1: [append a ]
         2:  [append b ]
         3:               [get ba]",
    ),
    (
        WRONG,
        "and keep it",
        "1: [append a ]
         2:  [append b ]
         3:               [get ba] [get ab]",
    ),
    (
        WRONG,
        "a get that begins later sees fewer appends",
        "1: [append a                       ]
         2:  [append b                      ]
         3:               [get ab] [get a]",
    ),
    (GOOD, "a put throws appends away", "1: [append a] [put b] [append c] [get bc]"),
    (WRONG, "appends survive a put", "1: [append a] [put b] [append c] [get abc]"),
    (GOOD, "lengths fix the order of appends", "1: [append a =1] [append bb =3] [get abb]"),
    (
        WRONG,
        "lengths tell an order that the get denies",
        "1: [append a =1 ]
         2:  [append bb =3]
         3:                  [get bba]",
    ),
    (GOOD, "an empty value is not an absent key", "1: [put ''] [get '']"),
    (WRONG, "an empty value was taken for an absent key", "1: [put ''] [get -]"),
    (GOOD, "a deleted key is absent", "1: [put a] [del yes] [get -] [del no]"),
    (WRONG, "a deleted key is still there", "1: [put a] [del yes] [get a]"),
    (WRONG, "a delete found a key that nobody made", "1: [del yes]"),
    (WRONG, "a delete missed a key", "1: [put a] [del no]"),
    (
        WRONG,
        "two deletes found one key",
        "1: [put a] [del yes]
         2:         [del yes]",
    ),
    (
        GOOD,
        "of two deletes at once one finds the key",
        "1: [put a] [del no ]
         2:         [del yes]",
    ),
    (
        GOOD,
        "a put between two deletes",
        "1: [put a] [del yes]
         2:         [del yes]
         3:         [put b  ]",
    ),
    (GOOD, "an append after a delete starts afresh", "1: [put a] [del yes] [append b] [get b]"),
    (GOOD, "creation gives version 1", "1: [cas 0 a ok] [get a v1]"),
    (GOOD, "every change adds one", "1: [put a] [append b] [cas 2 c ok] [get c v3]"),
    (WRONG, "a change did not add one", "1: [put a] [append b] [get ab v1]"),
    (WRONG, "a version that was never reached", "1: [put a] [cas 2 b ok]"),
    (WRONG, "a versioned put answers a version that is not the next", "1: [cas 0 a 2]"),
    (GOOD, "deletion forgets the version", "1: [put a] [put b] [del yes] [put c] [get c v1]"),
    (WRONG, "deletion did not forget the version", "1: [put a] [del yes] [put b] [get b v2]"),
    (GOOD, "another version", "1: [put a] [cas 0 b version] [cas 7 b version] [get a v1]"),
    (WRONG, "the version was right", "1: [put a] [cas 1 b version]"),
    (GOOD, "an absent key has no version", "1: [cas 3 a nokey] [get -]"),
    (WRONG, "the key was there", "1: [put a] [cas 3 b nokey]"),
    (WRONG, "at version 0 an absent key is made", "1: [cas 0 a nokey]"),
    (
        WRONG,
        "two versioned puts won at one version",
        "1: [put a] [cas 1 b ok]
         2:         [cas 1 c ok]",
    ),
    (
        GOOD,
        "one versioned put wins, the other is told",
        "1: [put a] [cas 1 b ok]
         2:         [cas 1 c version]",
    ),
    (
        WRONG,
        "a versioned put that failed was seen",
        "1: [put a] [cas 1 b ok]
         2:         [cas 1 c version] [get c v2]",
    ),
    (
        GOOD,
        "an unknown put may have happened",
        "1: [put a~
         2:         [get a]",
    ),
    (
        GOOD,
        "an unknown put may never happen",
        "1: [put a~
         2:         [get -] [get -]",
    ),
    (
        GOOD,
        "an unknown put may happen much later",
        "1: [put a~
         2:         [get -] [put b] [get b] [get a]",
    ),
    (
        WRONG,
        "an unknown put happens once",
        "1: [put a~
         2:         [get a] [put b] [get b] [get a]",
    ),
    (
        WRONG,
        "an unknown put cannot happen before it begins",
        "1:         [put a~
         2: [get a]",
    ),
    (
        WRONG,
        "an unknown append happens once",
        "1: [append a~
         2:            [get a] [get aa]",
    ),
    (
        GOOD,
        "two unknown appends may happen one by one",
        "1: [append a~
         2: [append a~
         3:            [get a] [get aa]",
    ),
    (
        GOOD,
        "an unknown delete explains the absence",
        "1: [put a] [del~
         2:              [get a] [get -]",
    ),
    (
        WRONG,
        "one unknown delete cannot explain two absences",
        "1: [put a] [del~
         2:              [get -] [put b] [get b] [get -]",
    ),
    (
        GOOD,
        "an unknown versioned put explains the version",
        "1: [put a] [cas 1 b~
         2:                  [cas 1 c version] [cas 2 c ok]",
    ),
    (
        WRONG,
        "an unknown versioned put needs its version",
        "1: [put a] [cas 5 b~
         2:                  [get b v2]",
    ),
    (
        GOOD,
        "keys have nothing to do with each other",
        "1: [x: put a] [y: get -] [y: put b]
         2:            [x: get a]            [y: get b]",
    ),
    (
        WRONG,
        "one wrong key is enough",
        "1: [x: put a] [y: put b]
         2:                       [x: get a] [y: get a]",
    ),
    (
        GOOD,
        "a client may ask twice at a time",
        "1: [put a         ]
         1:   [get a] [get a]",
    ),
];

#[test]
fn the_judge_agrees_with_the_reasons() {
    let wrong = CASES.iter().filter(|(expected, ..)| *expected == WRONG).count();
    assert!(CASES.len() >= 40 && wrong.abs_diff(CASES.len() - wrong) <= 4, "{wrong} wrong");
    for (expected, reason, drawing) in CASES {
        let history = history(drawing);
        match check(&history) {
            Verdict::Linearizable => assert!(*expected, "missed: {reason}\n{drawing}"),
            Verdict::Violation(window) => {
                assert!(!*expected, "false alarm: {reason}\n{drawing}\n{}", window.text());
                assert!(window.text().contains("no order explains"), "{reason}");
                assert!(window.ops.iter().all(|op| op.key == window.key), "{reason}");
            }
            verdict => panic!("{verdict}: {reason}"),
        }
    }
}

#[test]
fn brute_force_agrees_with_the_reasons() {
    for (expected, reason, drawing) in CASES {
        assert_eq!(brute::is_linearizable(&history(drawing)), *expected, "{reason}\n{drawing}");
    }
}
