//! A descriptor set as text: every service, method, message, enum, field number, type and label of
//! a package, one a line.

use std::fmt::Write;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Everything of that package, in an order of its own.
pub fn list(descriptor: &[u8], package: &str) -> String {
    let set = FileDescriptorSet::decode(descriptor).unwrap();
    let mut blocks = Vec::new();
    for file in set.file.iter().filter(|file| file.package() == package) {
        blocks.push(format!("syntax {}\n", file.syntax()));
        for service in &file.service {
            let mut block = format!("service {}\n", service.name());
            for method in &service.method {
                let stream = |is: bool| if is { "stream " } else { "" };
                writeln!(
                    block,
                    "  {}: {}{} -> {}{}",
                    method.name(),
                    stream(method.client_streaming()),
                    short(method.input_type()),
                    stream(method.server_streaming()),
                    short(method.output_type()),
                )
                .unwrap();
            }
            blocks.push(block);
        }
        blocks.extend(file.enum_type.iter().map(|kind| list_enum("", kind)));
        for message in &file.message_type {
            list_message("", message, &mut blocks);
        }
    }
    // Neither language nor wire knows an order of declarations.
    blocks.sort();
    blocks.concat()
}

fn list_enum(scope: &str, kind: &EnumDescriptorProto) -> String {
    let mut block = format!("enum {scope}{}\n", kind.name());
    let mut values: Vec<_> = kind.value.iter().collect();
    values.sort_by_key(|value| value.number());
    for value in values {
        writeln!(block, "  {} {}", value.number(), value.name()).unwrap();
    }
    block
}

fn list_message(scope: &str, message: &DescriptorProto, blocks: &mut Vec<String>) {
    let name = format!("{scope}{}", message.name());
    let mut block = format!("message {name}\n");
    let mut fields: Vec<_> = message.field.iter().collect();
    fields.sort_by_key(|field| field.number());
    for field in fields {
        let group = match field.oneof_index {
            Some(index) => format!(" oneof {index}"),
            None => String::new(),
        };
        let deprecated = field.options.as_ref().is_some_and(|options| options.deprecated());
        let deprecated = if deprecated { " deprecated" } else { "" };
        let kind = type_of(message, field);
        writeln!(block, "  {} {kind} {}{group}{deprecated}", field.number(), field.name()).unwrap();
    }
    blocks.push(block);
    let inner = format!("{name}.");
    blocks.extend(message.enum_type.iter().map(|kind| list_enum(&inner, kind)));
    for nested in message.nested_type.iter().filter(|nested| !is_map_entry(nested)) {
        list_message(&inner, nested, blocks);
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

/// Without the package, whose names begin with small letters and digits alone.
fn short(name: &str) -> &str {
    let own = name.split('.').skip_while(|part| part.chars().next().is_none_or(char::is_lowercase));
    let length = own.map(|part| part.len() + 1).sum::<usize>().saturating_sub(1);
    name.get(name.len() - length..).unwrap_or(name)
}

fn type_of(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let entry = message.nested_type.iter().find(|nested| {
        is_map_entry(nested) && field.type_name().rsplit('.').next() == Some(nested.name())
    });
    if let Some(entry) = entry {
        let inner = |number| {
            let field = entry.field.iter().find(|field| field.number() == number).unwrap();
            type_of(entry, field)
        };
        return format!("map<{}, {}>", inner(1), inner(2));
    }
    let name = match field.r#type() {
        Type::Message | Type::Enum | Type::Group => short(field.type_name()).to_owned(),
        plain => plain.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    match field.label() {
        Label::Repeated => format!("repeated {name}"),
        Label::Required => format!("required {name}"),
        Label::Optional if field.proto3_optional() => format!("optional {name}"),
        Label::Optional => name,
    }
}
