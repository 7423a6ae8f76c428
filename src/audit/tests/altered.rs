//! What was altered, removed or cut off afterwards is found and named.

use super::*;

#[test]
fn a_flipped_byte_is_found_and_the_first_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(small(dir.path()), "k", 300);
    for file in files(dir.path()) {
        let bytes = fs::read(&file).unwrap();
        for at in (0..bytes.len()).step_by(bytes.len() / 40) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            fs::write(&file, flipped).unwrap();
            let found = broken(dir.path());
            let newlines = memchr::memchr_iter(b'\n', &bytes[..at]).count();
            let line = u64::try_from(newlines + 1).unwrap();
            assert_eq!((&found.file, found.line), (&file, line), "{at}: {found:?}");
        }
        fs::write(&file, bytes).unwrap();
    }
    whole(dir.path());
}

/// Every altered copy of a file's lines, with the first line that is wrong in it.
fn alterations(lines: &[Vec<u8>]) -> Vec<(&'static str, Vec<Vec<u8>>, usize)> {
    let mut all = Vec::new();
    for place in (2..lines.len() - 2).step_by(9) {
        let mut removed = lines.to_vec();
        removed.remove(place);
        all.push(("removed", removed, place));
        let mut swapped = lines.to_vec();
        swapped.swap(place, place + 1);
        all.push(("swapped", swapped, place));
        let mut inserted = lines.to_vec();
        inserted.insert(place, lines[1].clone());
        all.push(("inserted", inserted, place));
        let mut altered = lines.to_vec();
        let text = String::from_utf8(altered[place].clone()).unwrap();
        altered[place] = text.replace("192.0.2.7", "192.0.2.8").into_bytes();
        all.push(("altered", altered, place));
    }
    all
}

#[test]
fn a_line_removed_swapped_inserted_or_altered_is_named_and_without_the_chain_nobody_notices() {
    let dir = tempfile::tempdir().unwrap();
    write(Rules::of(dir.path().to_owned()), "k", 100);
    let [file] = files(dir.path()).try_into().unwrap();
    let bytes = fs::read(&file).unwrap();
    let lines: Vec<Vec<u8>> =
        bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let mut unnoticed = 0;
    for (what, altered, place) in alterations(&lines) {
        fs::write(&file, altered.concat()).unwrap();
        let found = broken(dir.path());
        assert_eq!(found.line, u64::try_from(place + 1).unwrap(), "{what}: {found:?}");
        // The control: every line is JSON of the form it should have, which is all that there is without the chain.
        let parsed = altered.iter().all(|line| serde_json::from_slice::<Value>(line).is_ok());
        unnoticed += usize::from(parsed);
    }
    assert_eq!(unnoticed, alterations(&lines).len());
}

#[test]
fn a_chain_made_anew_is_told_by_the_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    write(Rules::of(dir.path().to_owned()), "k", 100);
    let [file] = files(dir.path()).try_into().unwrap();
    let bytes = fs::read(&file).unwrap();
    let mut link = chain::ORIGIN;
    let mut forged = Vec::new();
    for line in chain::lines(&bytes) {
        let text = String::from_utf8(line.to_vec()).unwrap();
        let (piece, _) = text.rsplit_once(",\"n\":").unwrap();
        link.append(piece.replace("192.0.2.7", "192.0.2.8").as_bytes(), &mut forged);
    }
    fs::write(&file, &forged).unwrap();
    let checkpoint = chain::lines(&forged).count();
    let found = broken(dir.path());
    assert_eq!((found.line, found.flaw), (u64::try_from(checkpoint).unwrap(), Flaw::Signature));

    // By another key it is no better, if the right one is known.
    let other = tempfile::tempdir().unwrap();
    write(Rules::of(other.path().to_owned()), "k", 1);
    let known = public_key(dir.path()).unwrap();
    assert!(matches!(verify(other.path(), &[known]), Err(VerifyError::Broken(_))));
}

#[test]
fn a_missing_segment_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(small(dir.path()), "k", 1_000);
    let all = files(dir.path());
    fs::remove_file(&all[2]).unwrap();
    assert_eq!(broken(dir.path()), Broken { file: all[3].clone(), line: 0, flaw: Flaw::Gap });
}

#[test]
fn segments_that_were_swapped_and_one_whose_last_checkpoint_was_removed_are_named() {
    let dir = tempfile::tempdir().unwrap();
    write(small(dir.path()), "k", 1_000);
    let all = files(dir.path());
    let [first, second] = [&all[1], &all[2]].map(|file| fs::read(file).unwrap());
    fs::write(&all[1], &second).unwrap();
    fs::write(&all[2], &first).unwrap();
    assert_eq!(broken(dir.path()).file, all[1]);
    fs::write(&all[2], &second).unwrap();
    let lines: Vec<_> = first.split_inclusive(|byte| *byte == b'\n').collect();
    fs::write(&all[1], lines[..lines.len() - 1].concat()).unwrap();
    let found = broken(dir.path());
    assert_eq!((&found.file, found.flaw), (&all[1], Flaw::Unsealed));
    fs::write(&all[1], &first).unwrap();
    whole(dir.path());
}

/// Cuts whole lines off the end of a trail.
fn cut_lines(file: &Path, count: usize) {
    let text = fs::read_to_string(file).unwrap();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    fs::write(file, lines[..lines.len() - count].concat()).unwrap();
}

#[test]
fn an_end_that_was_cut_off_at_a_line_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(Rules::of(dir.path().to_owned()), "k", 20);
    let written = whole(dir.path()).last;
    assert_eq!(whole(dir.path()).heads, 1);
    let file = files(dir.path()).pop().unwrap();
    for count in 1..=3 {
        cut_lines(&file, 1);
        let left = written - count;
        let broken = broken(dir.path());
        assert_eq!((broken.line, broken.flaw), (left + 1, Flaw::Cut(written, left)));
        assert_eq!(broken.file, file);
    }
    // The control: without what tells it nobody could know.
    fs::remove_file(dir.path().join("head.json")).unwrap();
    assert_eq!(whole(dir.path()).heads, 0);
}

#[test]
fn what_is_kept_elsewhere_tells_it_though_the_file_beside_it_was_put_back() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let elsewhere = state.path().join("audit-head.json");
    let rules = || Rules { head: Some(elsewhere.clone()), ..Rules::of(dir.path().to_owned()) };
    write(rules(), "k", 5);
    let (file, head) = (files(dir.path()).pop().unwrap(), dir.path().join("head.json"));
    let (before, beside) = (fs::read(&file).unwrap(), fs::read(&head).unwrap());
    let noted = whole(dir.path());
    write(rules(), "k", 5);
    let keys = [public_key(dir.path()).unwrap()];
    let known = |files: &[PathBuf], noted: &[Noted]| {
        verify_up_to(dir.path(), &keys, files, noted).map(|verified| verified.heads)
    };
    let after = whole(dir.path());
    let head_of = |verified: &Verified| Noted::read(&verified.head).unwrap();
    assert_eq!(
        known(std::slice::from_ref(&elsewhere), &[head_of(&noted), head_of(&after)]).unwrap(),
        4
    );
    fs::write(&file, before).unwrap();
    fs::write(&head, beside).unwrap();
    assert_eq!(known(&[], &[head_of(&noted)]).unwrap(), 2, "the control");
    for (files, noted, flaw) in [
        (vec![elsewhere.clone()], vec![], Flaw::Cut(after.last, noted.last)),
        (vec![], vec![head_of(&after)], Flaw::Lost),
    ] {
        let Err(VerifyError::Broken(broken)) = known(&files, &noted) else { panic!() };
        assert_eq!(broken.flaw, flaw);
    }
    // A gateway that starts on it says so in the trail, and what told it is kept.
    write(rules(), "k", 1);
    let events = records(dir.path());
    let cut: Vec<_> = events.iter().filter(|record| record["event"] == "end_cut").collect();
    assert_eq!(cut.len(), 1);
    assert_eq!((&cut[0]["written"], &cut[0]["left"]), (&after.last.into(), &noted.last.into()));
    write(rules(), "k", 50);
    assert_eq!(broken(dir.path()).flaw, Flaw::Anew(after.last));
}

#[test]
fn a_trail_that_is_longer_than_was_said_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    write(Rules::of(dir.path().to_owned()), "k", 5);
    let head = fs::read(dir.path().join("head.json")).unwrap();
    write(Rules::of(dir.path().to_owned()), "k", 5);
    // Stopped when the segment was written, and not yet how far it is.
    fs::write(dir.path().join("head.json"), head).unwrap();
    assert_eq!(whole(dir.path()).heads, 1);
    write(Rules::of(dir.path().to_owned()), "k", 5);
    assert!(records(dir.path()).iter().all(|record| record["event"] != "end_cut"));
    assert_eq!(whole(dir.path()).heads, 1);
}

#[test]
fn a_head_that_nobody_signed_is_named_and_one_of_a_removed_segment_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let rules = || Rules { keep: 3, ..small(dir.path()) };
    write(rules(), "k", 1_000);
    let head = dir.path().join("head.json");
    let old = fs::read(&head).unwrap();
    let number = whole(dir.path()).last;
    for _ in 0..4 {
        write(rules(), "k", 1_000);
    }
    assert!(whole(dir.path()).first > number);
    let text = String::from_utf8(fs::read(&head).unwrap()).unwrap();
    fs::write(&head, text.replacen("\"n\":", "\"n\":1", 1)).unwrap();
    assert_eq!((broken(dir.path()).file, broken(dir.path()).flaw), (head.clone(), Flaw::Unsigned));
    fs::write(&head, old).unwrap();
    assert_eq!(whole(dir.path()).heads, 0);
}
