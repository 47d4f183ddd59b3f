//! A name server of a test's own.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex};

pub struct NameServer {
    pub ip: IpAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    /// On port 53 of a loopback address that no other test has.
    pub fn start() -> Self {
        let pid = std::process::id();
        let socket = (1..=254_u32)
            .find_map(|last| {
                let ip = Ipv4Addr::new(127, 53, (pid % 250) as u8, last as u8);
                UdpSocket::bind((ip, 53)).ok()
            })
            .expect("an address to serve names on");
        let ip = socket.local_addr().unwrap().ip();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let told = asked.clone();
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                let (name, kind) = read(&question[12..length]);
                told.lock().unwrap().push(name.clone());
                let address = match name.as_str() {
                    "db.svc.cluster.test" => Some([10, 9, 8, 7]),
                    "outside.test" => Some([10, 9, 8, 6]),
                    _ => None,
                };
                let answer = answer(&question[..length], kind, address);
                let _ = socket.send_to(&answer, from);
            }
        });
        Self { ip, asked }
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// The question's name and type.
fn read(question: &[u8]) -> (String, u8) {
    let (mut name, mut at) = (Vec::new(), 0);
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        name.push(String::from_utf8_lossy(&question[at + 1..end]).to_lowercase());
        at = end;
    }
    (name.join("."), question[at + 2])
}

fn answer(question: &[u8], kind: u8, address: Option<[u8; 4]>) -> Vec<u8> {
    let end = 12 + question[12..].iter().position(|&byte| byte == 0).unwrap() + 5;
    let mut bytes = question[..end].to_vec();
    let has_address = address.is_some() && kind == 1;
    // A response, recursion available; no such name unless it is one.
    bytes[2] = 0x81;
    bytes[3] = if address.is_some() { 0x80 } else { 0x83 };
    bytes[4..12].copy_from_slice(&[0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
    if let Some(address) = address.filter(|_| has_address) {
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        bytes.extend(address);
    }
    bytes
}
