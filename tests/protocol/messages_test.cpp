// Every Protobuf message keeps all of its fields over the wire, and no field number ever changes.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <sstream>

#include "protocol/envelope.pb.h"
#include "tests/protocol/golden.h"

namespace crabcast {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::Message;
using google::protobuf::MessageFactory;
using google::protobuf::util::MessageDifferencer;

// The three files; envelope.proto imports the other two.
std::vector<const FileDescriptor*> files() {
  const FileDescriptor* envelope = pb::Envelope::descriptor()->file();
  std::vector<const FileDescriptor*> all = {envelope};
  for (int i = 0; i < envelope->dependency_count(); ++i) all.push_back(envelope->dependency(i));
  return all;
}

std::vector<const Descriptor*> messages() {
  std::vector<const Descriptor*> all;
  for (const FileDescriptor* file : files())
    for (int i = 0; i < file->message_type_count(); ++i) all.push_back(file->message_type(i));
  return all;
}

std::vector<const EnumDescriptor*> enums() {
  std::vector<const EnumDescriptor*> all;
  for (const FileDescriptor* file : files())
    for (int i = 0; i < file->enum_type_count(); ++i) all.push_back(file->enum_type(i));
  return all;
}

// Gives every field of a message another value, none of them the default; of a oneof, the member
// with the given index.
class Filler {
 public:
  explicit Filler(int oneof_member) : oneof_member_(oneof_member) {}

  void fill(Message& message) {
    for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
      const FieldDescriptor* field = message.GetDescriptor()->field(i);
      const auto* oneof = field->real_containing_oneof();
      if (oneof != nullptr && field->index_in_oneof() != oneof_member_) continue;
      for (int copy = 0; copy < (field->is_repeated() ? 2 : 1); ++copy) set(message, field);
    }
  }

 private:
  void set(Message& m, const FieldDescriptor* f) {
    const auto* r = m.GetReflection();
    const bool many = f->is_repeated();
    const int n = ++counter_;
    switch (f->cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        many ? r->AddInt32(&m, f, -n) : r->SetInt32(&m, f, -n);
        break;
      case FieldDescriptor::CPPTYPE_INT64:
        many ? r->AddInt64(&m, f, -n - kWide) : r->SetInt64(&m, f, -n - kWide);
        break;
      case FieldDescriptor::CPPTYPE_UINT32:
        many ? r->AddUInt32(&m, f, n) : r->SetUInt32(&m, f, n);
        break;
      case FieldDescriptor::CPPTYPE_UINT64:
        many ? r->AddUInt64(&m, f, n + kWide) : r->SetUInt64(&m, f, n + kWide);
        break;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        many ? r->AddDouble(&m, f, n + 0.1) : r->SetDouble(&m, f, n + 0.1);
        break;
      case FieldDescriptor::CPPTYPE_FLOAT:
        many ? r->AddFloat(&m, f, n + 0.5F) : r->SetFloat(&m, f, n + 0.5F);
        break;
      case FieldDescriptor::CPPTYPE_BOOL:
        many ? r->AddBool(&m, f, true) : r->SetBool(&m, f, true);
        break;
      case FieldDescriptor::CPPTYPE_STRING: {
        // A zero byte in `bytes`, a letter of two bytes in `string`.
        const std::string text =
            (f->type() == FieldDescriptor::TYPE_BYTES ? std::string("\0b", 2) : "\xC3\xA9") +
            std::to_string(n);
        many ? r->AddString(&m, f, text) : r->SetString(&m, f, text);
        break;
      }
      case FieldDescriptor::CPPTYPE_ENUM: {
        const auto* value = f->enum_type()->value(f->enum_type()->value_count() - 1);
        many ? r->AddEnum(&m, f, value) : r->SetEnum(&m, f, value);
        break;
      }
      case FieldDescriptor::CPPTYPE_MESSAGE:
        fill(*(many ? r->AddMessage(&m, f) : r->MutableMessage(&m, f)));
        break;
    }
  }

  static constexpr std::int64_t kWide = 1LL << 40;  // needs more than 32 bits
  int oneof_member_;
  int counter_ = 0;
};

// Number of ways to fill a message: one for each member of its oneof.
int variants(const Descriptor* type) {
  return type->real_oneof_decl_count() == 0 ? 1 : type->oneof_decl(0)->field_count();
}

void expect_round_trip(const Descriptor* type, int oneof_member) {
  SCOPED_TRACE(type->full_name() + ", oneof member " + std::to_string(oneof_member));
  const Message* prototype = MessageFactory::generated_factory()->GetPrototype(type);
  const std::unique_ptr<Message> sent(prototype->New()), received(prototype->New());
  Filler(oneof_member).fill(*sent);

  std::vector<const FieldDescriptor*> present;
  sent->GetReflection()->ListFields(*sent, &present);
  const int alternatives = variants(type) - 1;
  ASSERT_EQ(static_cast<int>(present.size()), type->field_count() - alternatives);

  const std::string bytes = sent->SerializeAsString();
  ASSERT_TRUE(received->ParseFromString(bytes));
  std::string difference;
  MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&difference);
  EXPECT_TRUE(differencer.Compare(*sent, *received)) << difference;

  // A cut message is never taken for a whole one with other content.
  if (!bytes.empty() && received->ParseFromString(bytes.substr(0, bytes.size() - 1))) {
    EXPECT_FALSE(MessageDifferencer::Equals(*sent, *received));
  }
}

TEST(Messages, EveryFieldOfEveryMessageSurvivesTheWire) {
  int checked = 0;
  for (const Descriptor* type : messages())
    for (int member = 0; member < variants(type); ++member, ++checked)
      expect_round_trip(type, member);
  EXPECT_GT(checked, 100);
}

TEST(Messages, EveryEnumStartsWithAnUnspecifiedOrHarmlessZero) {
  for (const EnumDescriptor* type : enums())
    EXPECT_EQ(type->value(0)->number(), 0) << type->full_name();
}

// ---- Field numbers
// ---------------------------------------------------------------------------------

// One line for each field and enum value: its name, then what must never change.
std::map<std::string, std::string> numbers_now() {
  std::map<std::string, std::string> lines;
  for (const Descriptor* type : messages())
    for (int i = 0; i < type->field_count(); ++i) {
      const FieldDescriptor* field = type->field(i);
      std::string kind = field->type_name();
      if (field->message_type() != nullptr) kind = field->message_type()->full_name();
      if (field->enum_type() != nullptr) kind = field->enum_type()->full_name();
      if (field->is_map()) kind = "map";
      lines[field->full_name()] =
          std::to_string(field->number()) + " " + (field->is_repeated() ? "repeated " : "") + kind;
    }
  for (const EnumDescriptor* type : enums())
    for (int i = 0; i < type->value_count(); ++i)
      lines[type->full_name() + "." + type->value(i)->name()] =
          std::to_string(type->value(i)->number()) + " value";
  return lines;
}

std::map<std::string, std::string> numbers_in_file(const std::string& text) {
  std::map<std::string, std::string> lines;
  std::istringstream input(text);
  for (std::string line; std::getline(input, line);)
    if (!line.empty() && line[0] != '#')
      lines[line.substr(0, line.find(' '))] = line.substr(line.find(' ') + 1);
  return lines;
}

// What is wrong between the numbers that were once given out and those of today.
std::vector<std::string> changed_numbers(
    const std::map<std::string, std::string>& given_out,
    const std::map<std::string, std::string>& now,
    const std::function<bool(const std::string&, int)>& reserved) {
  std::vector<std::string> problems;
  for (const auto& [name, line] : given_out) {
    const auto at = now.find(name);
    if (at == now.end()) {
      const std::string message = name.substr(0, name.rfind('.'));
      if (!reserved(message, std::stoi(line)))
        problems.push_back(name + " (" + line + ") is gone: write `reserved " +
                           std::to_string(std::stoi(line)) + ";` into " + message);
    } else if (at->second != line) {
      problems.push_back(name + " was " + line + " and is " + at->second +
                         ": give it a new number and name");
    }
  }
  return problems;
}

bool is_reserved(const std::string& message, int number) {
  const auto* pool = google::protobuf::DescriptorPool::generated_pool();
  if (const auto* type = pool->FindMessageTypeByName(message))
    return type->IsReservedNumber(number);
  if (const auto* type = pool->FindEnumTypeByName(message)) return type->IsReservedNumber(number);
  return true;  // the whole message is gone; nobody can read it wrongly
}

TEST(Messages, FieldNumbersAreNeverReusedOrChanged) {
  const std::string path = "tests/protocol/fields.golden";
  const auto given_out = numbers_in_file(test::read_file(test::repository_file(path)));
  const auto now = numbers_now();
  const auto problems = changed_numbers(given_out, now, is_reserved);
  for (const std::string& problem : problems) ADD_FAILURE() << problem;
  if (!problems.empty()) return;
  auto all = given_out;
  all.insert(now.begin(), now.end());
  std::string text = "# Every field number that was ever given out. Lines are only added.\n";
  for (const auto& [name, line] : all) text += name + " " + line + "\n";
  test::expect_generated(path, text);
}

TEST(Messages, TheCheckOfFieldNumbersFindsEachKindOfChange) {
  const std::map<std::string, std::string> before = {{"pb.A.x", "1 uint64"},
                                                     {"pb.A.y", "2 string"}};
  const auto none_reserved = [](const std::string&, int) { return false; };
  const auto problems = [&](const std::map<std::string, std::string>& now) {
    return changed_numbers(before, now, none_reserved).size();
  };
  EXPECT_EQ(problems(before), 0U);
  EXPECT_EQ(problems({{"pb.A.x", "1 uint64"}, {"pb.A.y", "2 string"}, {"pb.A.z", "3 bool"}}), 0U);
  EXPECT_EQ(problems({{"pb.A.x", "3 uint64"}, {"pb.A.y", "2 string"}}), 1U);
  EXPECT_EQ(problems({{"pb.A.x", "1 string"}, {"pb.A.y", "2 string"}}), 1U);
  EXPECT_EQ(problems({{"pb.A.y", "2 string"}}), 1U);
  EXPECT_EQ(problems({{"pb.A.new", "1 uint64"}, {"pb.A.y", "2 string"}}), 1U);
  EXPECT_EQ(changed_numbers(before, {{"pb.A.y", "2 string"}},
                            [](const std::string& m, int n) { return m == "pb.A" && n == 1; })
                .size(),
            0U);
}

}  // namespace
}  // namespace crabcast
