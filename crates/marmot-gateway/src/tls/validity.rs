//! When a certificate is good: the two times in it (RFC 5280, 4.1.2.5), which rustls checks and does not tell.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// From when until when a certificate is good, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first.
    pub from: i64,
    /// The last.
    pub until: i64,
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The field in front that says which version of certificates it is; the first has none.
const VERSION: u8 = 0xa0;

impl Validity {
    /// That of the first certificate in a text in PEM. `None`: there is none.
    pub fn of_pem(pem: &[u8]) -> Option<Self> {
        Self::of(&CertificateDer::pem_slice_iter(pem).next()?.ok()?)
    }

    /// That of a certificate in DER. `None`: it is none.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = expect(SEQUENCE, certificate)?;
        let (signed, _) = expect(SEQUENCE, certificate)?;
        let rest = if signed.first() == Some(&VERSION) { expect(VERSION, signed)?.1 } else { signed };
        let (_serial, rest) = expect(INTEGER, rest)?;
        let (_algorithm, rest) = expect(SEQUENCE, rest)?;
        let (_issuer, rest) = expect(SEQUENCE, rest)?;
        let (validity, _) = expect(SEQUENCE, rest)?;
        let (from, rest) = time(validity)?;
        let (until, _) = time(rest)?;
        Some(Self { from, until })
    }
}

/// The value of a field of this kind at the start of `bytes`, and what follows it.
fn expect(kind: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, value, rest) = field(bytes)?;
    (found == kind).then_some((value, rest))
}

/// The kind and value of the field at the start of `bytes`, and what follows it.
fn field(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, short], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match short {
        ..=0x7f => (usize::from(short), rest),
        // How many bytes say how long it is; four are enough for any certificate.
        0x80..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (length.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((kind, value, rest))
}

/// The time at the start of `bytes`, in seconds since 1970, and what follows it.
fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (kind, text, rest) = field(bytes)?;
    let text = text.strip_suffix(b"Z").filter(|text| text.iter().all(u8::is_ascii_digit))?;
    let number = |digits: &[u8]| digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    let (year, text) = match (kind, text.len()) {
        // Two digits: from 1950 to 2049.
        (UTC_TIME, 12) => {
            let year = number(&text[..2]);
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&text[..4]), &text[4..]),
        _ => return None,
    };
    let parts: Vec<i64> = text.chunks(2).map(number).collect();
    let [month, day, hour, minute, second] = parts[..] else { return None };
    let is_time =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    is_time.then(|| (((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second, rest))
}

/// Days since 1970-01-01. Years begin in March here, so that the day that leap years add is their last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn between(from: (i32, u8, u8), until: (i32, u8, u8)) -> Validity {
        let mut params = CertificateParams::new(vec!["iris.test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Validity::of(certificate.der()).unwrap()
    }

    #[test]
    fn both_ways_of_writing_times_are_read() {
        let day = 86_400;
        let read = between((1970, 1, 2), (2000, 3, 1));
        assert_eq!((read.from, read.until), (day, 951_868_800));
        // From 2050 on they are written in another way; 2100 is no leap year.
        let read = between((2049, 12, 31), (2100, 3, 1));
        assert_eq!((read.from, read.until), (2_524_521_600, 4_107_542_400));
    }

    #[test]
    fn what_is_no_certificate_has_no_validity() {
        let whole = rcgen::generate_simple_self_signed(vec!["iris.test".to_owned()]).unwrap();
        let whole = whole.cert.der();
        assert!(Validity::of(whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(Validity::of(&whole[..end]), None);
        }
        assert_eq!(Validity::of(b"-----BEGIN CERTIFICATE-----"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Validity::of(&bytes);
        }
    }
}
