//! Answers that break the interface's rules, as a component in another language may give them.

use wasmpod_guest::Adjustment;

/// A text that is no UTF-8, or a list outside of the component's memory.
pub fn of(what: &str) -> Adjustment {
    if what == "text" {
        // SAFETY: none; nobody reads it here, it is only told.
        let text = unsafe { String::from_utf8_unchecked(vec![0xff, 0xfe, 0xfd]) };
        return Adjustment::new().env("GARBAGE", text);
    }
    let far = std::ptr::without_provenance_mut::<u8>(0xffff_0000);
    // SAFETY: none; the instance ends before it is given back.
    let text = unsafe { String::from_raw_parts(far, 1 << 15, 1 << 15) };
    Adjustment::new().env("GARBAGE", text)
}
