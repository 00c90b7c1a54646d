// Exit codes of both programs (docs/operations.md). Scripts rely on them: never renumber.
#pragma once

#include "protocol/error.h"

namespace crabcast::apps {

enum class Exit : int {
  ok = 0,
  failed = 1,       // it ran, and the result is bad: a job failed, a checkpoint does not verify
  usage = 2,        // the command line is wrong
  bad_input = 3,    // a spec, corpus or argument is wrong: mend it and try again
  not_found = 4,    // no such job, checkpoint, file or controller
  refused = 5,      // a key or a permission
  unavailable = 6,  // no answer in time; trying again may help
  resources = 7,    // disk full, port in use, out of memory
  stopped = 8,      // stopped on request (Ctrl-C); can be resumed
};

inline Exit exit_of(Errc code) {
  switch (code) {
    case Errc::ok:
      return Exit::ok;
    case Errc::invalid_argument:
    case Errc::invalid_spec:
    case Errc::already_exists:
    case Errc::data_error:
    case Errc::unsupported:
      return Exit::bad_input;
    case Errc::not_found:
      return Exit::not_found;
    case Errc::permission_denied:
    case Errc::unauthenticated:
      return Exit::refused;
    case Errc::unavailable:
    case Errc::timeout:
    case Errc::protocol_mismatch:
      return Exit::unavailable;
    case Errc::disk_full:
    case Errc::address_in_use:
    case Errc::resource_exhausted:
      return Exit::resources;
    default:
      return Exit::failed;
  }
}

}  // namespace crabcast::apps
