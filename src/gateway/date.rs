//! The date of an answer, written once a second.

use std::cell::Cell;

use crate::clock::Micros;

/// The last date that was written.
#[derive(Debug, Default)]
pub(super) struct Dates {
    second: Cell<u64>,
    text: Cell<[u8; 29]>,
}

impl Dates {
    /// The date at `now` (RFC 9110, 5.6.7).
    pub(super) fn at(&self, now: Micros) -> [u8; 29] {
        let second = now.0 / 1_000_000;
        if self.second.replace(second) != second || self.text.get() == [0; 29] {
            self.text.set(text(second));
        }
        self.text.get()
    }
}

fn text(second: u64) -> [u8; 29] {
    let (days, rest) = (second / 86_400, second % 86_400);
    let (year, month, day) = civil(days);
    let mut text = *b"Thu, 00 Jan 0000 00:00:00 GMT";
    let names = (WEEKDAYS.get(usize::try_from(days % 7).unwrap_or(0)), MONTHS.get(month));
    if let (Some(weekday), Some(month)) = names {
        put(&mut text, 0, *weekday);
        put(&mut text, 8, *month);
    }
    put(&mut text, 5, two(day));
    put(&mut text, 12, two(year / 100));
    put(&mut text, 14, two(year % 100));
    put(&mut text, 17, two(rest / 3_600));
    put(&mut text, 20, two(rest / 60 % 60));
    put(&mut text, 23, two(rest % 60));
    text
}

fn put<const N: usize>(text: &mut [u8; 29], at: usize, part: [u8; N]) {
    if let Some(place) = text.get_mut(at..at + N) {
        place.copy_from_slice(&part);
    }
}

fn two(number: u64) -> [u8; 2] {
    [number / 10 % 10, number % 10].map(|digit| b'0' + u8::try_from(digit).unwrap_or(0))
}

/// Year, month from 0 and day from 1 of a day since the epoch: years are counted from March, so that a leap day is
/// the last of its year.
fn civil(days: u64) -> (u64, usize, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let in_month = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 2, 0) } else { (month - 10, 1) };
    (era * 400 + year + next, usize::try_from(month).unwrap_or(0), in_month)
}

/// From Thursday, which the epoch began with.
const WEEKDAYS: [[u8; 3]; 7] = [*b"Thu", *b"Fri", *b"Sat", *b"Sun", *b"Mon", *b"Tue", *b"Wed"];
const MONTHS: [[u8; 3]; 12] = [
    *b"Jan", *b"Feb", *b"Mar", *b"Apr", *b"May", *b"Jun", *b"Jul", *b"Aug", *b"Sep", *b"Oct",
    *b"Nov", *b"Dec",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_http_has_them() {
        let dates = Dates::default();
        for (second, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (1_700_000_000, "Tue, 14 Nov 2023 22:13:20 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        ] {
            let written = dates.at(Micros(second * 1_000_000 + 999_999));
            assert_eq!(std::str::from_utf8(&written).unwrap(), date);
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 0, 0);
        for days in 0..200_000 {
            let next = civil(days);
            let is_next_day = next == (year, month, day + 1);
            let is_next_month = next == (year, month + 1, 1) && day >= 28;
            let is_next_year = next == (year + 1, 0, 1) && (month, day) == (11, 31);
            assert!(is_next_day || is_next_month || is_next_year, "{next:?}");
            (year, month, day) = next;
        }
    }
}
