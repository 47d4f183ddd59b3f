//! How a module asks who it is: the functions of `wasmpod_container`, which wit/identity.wit
//! describes.

use super::Call;
use super::errno::{Code, Result};

pub fn user_get(call: &mut Call<'_>, uid: u32, gid: u32) -> Result<()> {
    let user = call.guest.user.clone();
    call.memory.put_u32(uid, user.uid)?;
    call.memory.put_u32(gid, user.gid)
}

pub fn groups_size_get(call: &mut Call<'_>, count: u32) -> Result<()> {
    let groups = call.guest.user.groups.len();
    call.memory.put_u32(count, u32::try_from(groups).map_err(|_| Code::OVERFLOW)?)
}

pub fn groups_get(call: &mut Call<'_>, mut at: u32) -> Result<()> {
    for &group in &call.guest.user.groups {
        call.memory.put_u32(at, group)?;
        at = at.checked_add(4).ok_or(Code::FAULT)?;
    }
    Ok(())
}

pub fn user_name_size_get(call: &mut Call<'_>, size: u32) -> Result<()> {
    let name = call.guest.user.name.len();
    call.memory.put_u32(size, u32::try_from(name).map_err(|_| Code::OVERFLOW)?)
}

pub fn user_name_get(call: &mut Call<'_>, at: u32) -> Result<()> {
    call.memory.put(at, call.guest.user.name.as_bytes())
}
