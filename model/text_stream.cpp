#include "model/text_stream.h"

#include <algorithm>
#include <utility>

namespace crabcast::model {
namespace {

// What decode writes for bytes that are no letter, or not yet one.
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Bytes at the end of the text with which the stop text begins.
std::size_t begun(std::string_view text, std::string_view stop) {
  for (std::size_t count = std::min(text.size(), stop.size() - 1); count > 0; --count)
    if (text.ends_with(stop.substr(0, count))) return count;
  return 0;
}

}  // namespace

TextStream::TextStream(const Tokenizer& tokenizer, std::vector<std::string> stop_texts)
    : tokenizer_(tokenizer), stop_texts_(std::move(stop_texts)) {}

std::string TextStream::add(TokenId id) {
  if (stopped_) return "";
  unfinished_.push_back(id);
  const std::string text = tokenizer_.decode(unfinished_);
  if (text.ends_with(kReplacement)) return "";
  unfinished_.clear();
  return release(text);
}

std::string TextStream::finish() {
  if (stopped_) return "";
  std::string text = release(tokenizer_.decode(std::exchange(unfinished_, {})));
  return text + std::exchange(held_, {});
}

std::string TextStream::release(std::string_view text) {
  held_ += text;
  std::size_t stop = std::string::npos, begins = 0;
  for (const std::string& one : stop_texts_) {
    stop = std::min(stop, held_.find(one));
    begins = std::max(begins, begun(held_, one));
  }
  stopped_ = stop != std::string::npos;
  const std::size_t certain = stopped_ ? stop : held_.size() - begins;
  std::string out = held_.substr(0, certain);
  held_.erase(0, stopped_ ? held_.size() : certain);
  return out;
}

}  // namespace crabcast::model
