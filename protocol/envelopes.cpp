#include "protocol/envelopes.h"

#include <stdexcept>

namespace crabcast {

void set_body(pb::Envelope& envelope, const google::protobuf::Message& body) {
  const auto* bodies = pb::Envelope::descriptor()->FindOneofByName("body");
  for (int i = 0; i < bodies->field_count(); ++i) {
    const auto* field = bodies->field(i);
    if (field->message_type() != body.GetDescriptor()) continue;
    envelope.GetReflection()->MutableMessage(&envelope, field)->CopyFrom(body);
    return;
  }
  throw std::logic_error("not a body of Envelope: " + body.GetTypeName());
}

}  // namespace crabcast
