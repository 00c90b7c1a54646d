// The border between LibTorch, which throws, and this code, where errors are values.
#pragma once

#include <c10/util/Exception.h>

#include <exception>
#include <new>
#include <string>

#include "protocol/error.h"

namespace crabcast::model {

// Runs `body`, which returns a Result, and turns what LibTorch throws into an Error. `when_full`
// says what to do when memory runs out.
template <class Body>
auto guarded(const std::string& doing, const char* when_full, Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const c10::OutOfMemoryError& e) {
    return fail(Errc::resource_exhausted,
                doing + ": out of memory: " + e.what_without_backtrace() + ". " + when_full);
  } catch (const c10::AcceleratorError& e) {
    return fail(Errc::device_error, doing + ": " + e.what_without_backtrace());
  } catch (const c10::Error& e) {
    return fail(Errc::internal, doing + ": " + e.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    return fail(Errc::resource_exhausted, doing + ": out of memory. " + when_full);
  } catch (const std::exception& e) {
    return fail(Errc::internal, doing + ": " + e.what());
  }
}

}  // namespace crabcast::model
