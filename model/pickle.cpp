#include "model/pickle.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "model/pickle_calls.h"
#include "model/pickle_objects.h"
#include "protocol/format.h"

namespace crabcast::model {
namespace {

using Id = PickleObject::Id;
using Kind = PickleObject::Kind;

constexpr std::size_t kMostTensors = 1 << 16;
constexpr std::size_t kLongestName = 512;

// The instructions of pickle (Lib/pickletools.py of CPython) that a state dict is made of.
enum Opcode : unsigned char {
  kMark = '(',
  kStop = '.',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinUnicode = 'X',
  kBuild = 'b',
  kGlobal = 'c',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyDict = '}',
  kEmptyTuple = ')',
  kProto = 0x80,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8A,
  kShortBinUnicode = 0x8C,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
};

class Machine {
 public:
  explicit Machine(std::string_view text) : text_(text) {}

  std::vector<PickledTensor> run() {
    while (step()) {
    }
    if (at_ != text_.size()) refuse("there is something behind the end");
    if (stack_.size() != 1 || !marks_.empty())
      refuse("its stack does not hold one object at the end");
    return state_dict(stack_.front());
  }
  [[nodiscard]] std::size_t at() const { return begin_; }  // the instruction's first byte

 private:
  // ---- The text

  std::string_view take(std::uint64_t count) {
    if (count > text_.size() - at_) refuse("it ends in the middle");
    const std::string_view bytes = text_.substr(at_, count);
    at_ += count;
    return bytes;
  }
  template <class T>
  T take_number() {
    T value = 0;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view take_line() {
    const auto end = text_.find('\n', at_);
    if (end == std::string_view::npos) refuse("it ends in the middle");
    const std::string_view line = take(end - at_);
    ++at_;
    return line;
  }

  // ---- Stack and memo

  bool push(Id id) {
    if (stack_.size() == kMostPickleObjects) refuse("its stack is too deep");
    stack_.push_back(id);
    return true;
  }
  bool push(PickleObject object) { return push(objects_.add(std::move(object))); }
  bool push_whole(std::int64_t value) { return push({.kind = Kind::whole, .number = value}); }
  bool mark() {
    if (marks_.size() == kMostPickleObjects) refuse("its stack is too deep");
    marks_.push_back(stack_.size());
    return true;
  }
  Id top() {
    if (stack_.empty() || (!marks_.empty() && marks_.back() == stack_.size()))
      refuse("it takes from an empty stack");
    return stack_.back();
  }
  Id pop() {
    const Id id = top();
    stack_.pop_back();
    return id;
  }
  std::vector<Id> pop(std::size_t count) {
    std::vector<Id> items(count);
    for (std::size_t i = count; i > 0; --i) items[i - 1] = pop();
    return items;
  }
  std::vector<Id> pop_to_mark() {
    if (marks_.empty()) refuse("it has no mark");
    const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    const std::vector<Id> items(first, stack_.end());
    stack_.erase(first, stack_.end());
    marks_.pop_back();
    return items;
  }
  bool put(std::uint32_t key) {
    memo_[key] = top();
    return true;
  }
  bool get(std::uint32_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end())
      refuse("it recalls number " + std::to_string(key) + ", which it never kept");
    return push(found->second);
  }

  // ---- Instructions; false after the last one

  bool step() {
    begin_ = at_;
    switch (const auto opcode = take_number<unsigned char>()) {
      case kProto:
        return check_protocol(take_number<std::uint8_t>());
      case kFrame:  // only says how much may be read at once
        take_number<std::uint64_t>();
        return true;
      case kStop:
        return false;
      case kMark:
        return mark();
      case kNone:
        return push(PickleObject{});
      case kNewTrue:
      case kNewFalse:
        return push({.kind = Kind::truth, .number = opcode == kNewTrue});
      case kBinInt:
        return push_whole(take_number<std::int32_t>());
      case kBinInt1:
        return push_whole(take_number<std::uint8_t>());
      case kBinInt2:
        return push_whole(take_number<std::uint16_t>());
      case kLong1:
        return push_long(take(take_number<std::uint8_t>()));
      case kBinUnicode:
        return push({.kind = Kind::text, .text = take(take_number<std::uint32_t>())});
      case kShortBinUnicode:
        return push({.kind = Kind::text, .text = take(take_number<std::uint8_t>())});
      case kBinPut:
        return put(take_number<std::uint8_t>());
      case kLongBinPut:
        return put(take_number<std::uint32_t>());
      case kMemoize:
        return put(static_cast<std::uint32_t>(memo_.size()));
      case kBinGet:
        return get(take_number<std::uint8_t>());
      case kLongBinGet:
        return get(take_number<std::uint32_t>());
      default:
        return combine(opcode);
    }
  }

  // Those that make one object of others.
  bool combine(unsigned char opcode) {
    switch (opcode) {
      case kEmptyTuple:
        return push({.kind = Kind::tuple});
      case kTuple1:
      case kTuple2:
      case kTuple3:
        return push({.kind = Kind::tuple, .items = pop(opcode - kTuple1 + 1U)});
      case kTuple:
        return push({.kind = Kind::tuple, .items = pop_to_mark()});
      case kEmptyDict:
        return push({.kind = Kind::dict});
      case kSetItem:
        return set_items(pop(2));
      case kSetItems:
        return set_items(pop_to_mark());
      case kGlobal: {
        const std::string_view module = take_line();
        return push(known_function(module, take_line()));
      }
      case kStackGlobal: {
        const std::vector<Id> parts = pop(2);
        return push(known_function(objects_.text(parts[0]), objects_.text(parts[1])));
      }
      case kBinPersId:
        return push(persistent(objects_, pop()));
      case kReduce: {
        const std::vector<Id> call = pop(2);
        return push(called(objects_, call[0], call[1]));
      }
      case kBuild:
        // Attributes of an ordered dict: where state_dict() keeps versions of modules. Not needed.
        objects_.dict(pop());
        objects_.dict(top());
        return true;
      default:
        refuse("instruction " + std::to_string(opcode) +
               " has no place in a state dict; nothing of the file was executed");
    }
  }

  static bool check_protocol(std::uint8_t version) {
    if (version < 2 || version > 5)
      refuse("its protocol is " + std::to_string(version) + "; 2 to 5 are known");
    return true;
  }

  // Two's complement, little-endian, at most eight bytes: sizes are not larger.
  bool push_long(std::string_view bytes) {
    if (bytes.size() > sizeof(std::int64_t))
      refuse("a number has " + std::to_string(bytes.size()) + " bytes");
    std::uint64_t value = !bytes.empty() && (bytes.back() & 0x80) != 0 ? ~0ULL : 0;
    for (std::size_t i = bytes.size(); i > 0; --i)
      value = (value << 8) | static_cast<unsigned char>(bytes[i - 1]);
    return push_whole(static_cast<std::int64_t>(value));
  }

  bool set_items(const std::vector<Id>& items) {
    if (items.size() % 2 != 0) refuse("a dict gets a key without a value");
    std::vector<Id>& known = objects_.dict(top());
    known.insert(known.end(), items.begin(), items.end());
    return true;
  }

  // ---- The result

  std::vector<PickledTensor> state_dict(Id id) {
    const std::vector<Id>& items = objects_.dict(id);
    if (items.size() > 2 * kMostTensors)
      refuse("it has more than " + std::to_string(kMostTensors) + " tensors");
    std::set<std::string_view> names;
    std::vector<PickledTensor> tensors;
    for (std::size_t i = 0; i < items.size(); i += 2) {
      const std::string_view name = objects_.text(items[i]);
      if (name.empty() || name.size() > kLongestName ||
          !std::all_of(name.begin(), name.end(), [](char c) { return c > 0x20 && c < 0x7F; }))
        refuse("a name is not plain text of at most " + std::to_string(kLongestName) + " bytes");
      if (!names.insert(name).second) refuse(std::string(name) + " is there twice");
      tensors.push_back(objects_.tensor(items[i + 1]));
      tensors.back().name = name;
    }
    return tensors;
  }

  std::string_view text_;
  std::size_t at_ = 0, begin_ = 0;
  PickleObjects objects_;
  std::vector<Id> stack_;
  std::vector<std::size_t> marks_;  // heights of the stack
  std::map<std::uint32_t, Id> memo_;
};

}  // namespace

Result<std::vector<PickledTensor>> read_state_dict(std::string_view pickle) {
  Machine machine(pickle);
  try {
    return machine.run();
  } catch (const Refusal& refusal) {
    return fail(Errc::corrupt, "at byte " + std::to_string(machine.at()) + ": " + refusal.why);
  }
}

}  // namespace crabcast::model
