// Bodies into envelopes, by type.
#pragma once

#include "protocol/envelope.pb.h"

namespace crabcast {

// Puts `body` into the envelope's field of that type. Throws std::logic_error for a type that is no
// body of Envelope: a programmer's mistake, found by the first test that sends it.
void set_body(pb::Envelope& envelope, const google::protobuf::Message& body);

}  // namespace crabcast
