//! Translations that both versions' generated types need alike. The types differ between the
//! versions and have the same names, so each version's `convert` expands these once.

/// `code(errno)`: the error code that says the same. `$other` takes an errno that has none.
macro_rules! error_codes {
    ($Code:ident, again: $again:expr, other: $other:expr) => {
        pub fn code(errno: rustix::io::Errno) -> $Code {
            use rustix::io::Errno;
            match errno {
                Errno::ACCESS => $Code::Access,
                Errno::AGAIN => $again,
                Errno::ALREADY => $Code::Already,
                Errno::BADF => $Code::BadDescriptor,
                Errno::BUSY => $Code::Busy,
                Errno::DEADLK => $Code::Deadlock,
                Errno::DQUOT => $Code::Quota,
                Errno::EXIST => $Code::Exist,
                Errno::FBIG => $Code::FileTooLarge,
                Errno::ILSEQ => $Code::IllegalByteSequence,
                Errno::INPROGRESS => $Code::InProgress,
                Errno::INTR => $Code::Interrupted,
                Errno::INVAL => $Code::Invalid,
                Errno::IO => $Code::Io,
                Errno::ISDIR => $Code::IsDirectory,
                Errno::LOOP => $Code::Loop,
                Errno::MLINK => $Code::TooManyLinks,
                Errno::MSGSIZE => $Code::MessageSize,
                Errno::NAMETOOLONG => $Code::NameTooLong,
                Errno::NODEV => $Code::NoDevice,
                Errno::NOENT => $Code::NoEntry,
                Errno::NOLCK => $Code::NoLock,
                // WASI has no word for too many descriptors.
                Errno::NOMEM | Errno::MFILE | Errno::NFILE => $Code::InsufficientMemory,
                Errno::NOSPC => $Code::InsufficientSpace,
                Errno::NOTDIR => $Code::NotDirectory,
                Errno::NOTEMPTY => $Code::NotEmpty,
                Errno::NOTRECOVERABLE => $Code::NotRecoverable,
                Errno::OPNOTSUPP | Errno::NOSYS => $Code::Unsupported,
                Errno::NOTTY => $Code::NoTty,
                Errno::NXIO => $Code::NoSuchDevice,
                Errno::OVERFLOW => $Code::Overflow,
                Errno::PERM => $Code::NotPermitted,
                Errno::PIPE => $Code::Pipe,
                Errno::ROFS => $Code::ReadOnly,
                Errno::SPIPE => $Code::InvalidSeek,
                Errno::TXTBSY => $Code::TextFileBusy,
                Errno::XDEV => $Code::CrossDevice,
                errno => $other(errno),
            }
        }
    };
}

/// `follow`, `opening`, `flags`, `advice`, `hash` and `kind` over the types of one version.
macro_rules! flag_conversions {
    ($types:ident, unknown: $unknown:expr) => {
        use $crate::shim::wasi::component::{Access, Hash, Opening};
        use $crate::shim::wasi::fs::{Advice, Durability, Follow, Kind};

        pub fn follow(flags: $types::PathFlags) -> Follow {
            match flags.contains($types::PathFlags::SYMLINK_FOLLOW) {
                true => Follow::Yes,
                false => Follow::No,
            }
        }

        pub fn opening(
            path: $types::PathFlags,
            open: $types::OpenFlags,
            flags: $types::DescriptorFlags,
        ) -> Opening {
            type Open = $types::OpenFlags;
            type Flags = $types::DescriptorFlags;
            let durability = match flags {
                // Linux knows no difference between these two.
                _ if flags.intersects(Flags::FILE_INTEGRITY_SYNC | Flags::REQUESTED_WRITE_SYNC) => {
                    Durability::All
                }
                _ if flags.contains(Flags::DATA_INTEGRITY_SYNC) => Durability::Data,
                _ => Durability::Cached,
            };
            let write = flags.contains(Flags::WRITE);
            let access = Access {
                read: flags.contains(Flags::READ) || !write,
                write,
                mutate_directory: flags.contains(Flags::MUTATE_DIRECTORY),
                durability,
            };
            Opening {
                follow: follow(path),
                create: open.contains(Open::CREATE),
                exclusive: open.contains(Open::EXCLUSIVE),
                truncate: open.contains(Open::TRUNCATE),
                directory: open.contains(Open::DIRECTORY),
                access,
            }
        }

        pub fn flags(access: Access) -> $types::DescriptorFlags {
            type Flags = $types::DescriptorFlags;
            let mut flags = Flags::empty();
            if access.read {
                flags |= Flags::READ;
            }
            if access.write {
                flags |= Flags::WRITE;
            }
            if access.mutate_directory {
                flags |= Flags::MUTATE_DIRECTORY;
            }
            match access.durability {
                Durability::Cached => {}
                Durability::Data => flags |= Flags::DATA_INTEGRITY_SYNC,
                Durability::All => flags |= Flags::FILE_INTEGRITY_SYNC,
            }
            flags
        }

        pub fn advice(advice: $types::Advice) -> Advice {
            match advice {
                $types::Advice::Normal => Advice::Normal,
                $types::Advice::Sequential => Advice::Sequential,
                $types::Advice::Random => Advice::Random,
                $types::Advice::WillNeed => Advice::WillNeed,
                $types::Advice::DontNeed => Advice::DontNeed,
                $types::Advice::NoReuse => Advice::NoReuse,
            }
        }

        pub fn hash(hash: Hash) -> $types::MetadataHashValue {
            $types::MetadataHashValue { lower: hash.lower, upper: hash.upper }
        }

        pub fn kind(kind: Kind) -> $types::DescriptorType {
            match kind {
                Kind::File => $types::DescriptorType::RegularFile,
                Kind::Dir => $types::DescriptorType::Directory,
                Kind::Symlink => $types::DescriptorType::SymbolicLink,
                Kind::CharacterDevice => $types::DescriptorType::CharacterDevice,
                Kind::BlockDevice => $types::DescriptorType::BlockDevice,
                Kind::Fifo => $types::DescriptorType::Fifo,
                Kind::Socket => $types::DescriptorType::Socket,
                Kind::Unknown => $unknown,
            }
        }
    };
}

pub(crate) use {error_codes, flag_conversions};
