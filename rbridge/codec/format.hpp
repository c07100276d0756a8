// The specification of the bytes. Native byte order: both ends run on one machine or compared byte orders in the handshake.
//
// node     = tag:u8 content [attributes, if tag has kHasAttributes]
// length   = u8 below 254 | 254 u32 | 255 u64
// string   = u8 below kStringMark: an ASCII string of that many bytes follows
//          | mark:u8 size:u32 bytes | kStringNA | kStringSame index:u32 (same as that element of this character vector)
// symbol   = node with the tag kSymbol or kSymbolOther
// attributes = flags:u8 count:length { AttributeName:u8 [symbol, if kOther] node }*
// bulk     = count:u64 offset:u64; data at stream start + offset, a multiple of 64. Offsets rise within a value.
#pragma once

#include <cstddef>
#include <cstdint>

namespace setsuna::codec {

enum class Tag : std::uint8_t {
  kNull,
  kFalse,
  kTrue,
  kLogicalNA,
  kInteger1,  // i32
  kReal1,     // f64
  kString1,   // string
  kLogical,   // length, i32*
  kInteger,
  kReal,
  kComplex,
  kRaw,
  kString,       // length, string*
  kList,         // length, node*
  kExpression,   // length, node*
  kBulkLogical,  // bulk
  kBulkInteger,
  kBulkReal,
  kBulkComplex,
  kBulkRaw,
  kIntegerSequence,  // n:i64 first:f64 step:i8
  kRealSequence,     // n:i64 first:f64 step:i8
  kSymbol,           // ASCII name: size:u8 (or 255 size:u32) bytes
  kSymbolOther,      // string
  kMissingArg,
  kPairlist,    // length, {tag: symbol or kNull, node}*
  kDots,        // as kPairlist
  kCall,        // length, node*
  kCallTagged,  // as kPairlist
  kClosure,     // environment:node formals:node body:node
  kPrimitive,   // symbol
  kGlobalEnv,
  kBaseEnv,
  kEmptyEnv,
  kBaseNamespace,
  kNamespace,    // symbol
  kPackageEnv,   // string
  kReference,    // index:length of an earlier object of the following four kinds, counted from 0
  kEnvironment,  // flags:u8 enclosing:node table_size:u32 count:u32 {symbol flags:u8 node}*
  kPointer,      // protected:node tag:node
  kWeakReference,
  kHooked,         // class:string size:u64 bytes: what a serial_config() function made of a reference object
  kPromise,        // expression:node environment:node
  kPromiseForced,  // expression:node value:node
  kPromiseValue,   // node that is both the expression and the value
  kS4,             // nothing but attributes
  kFallback,  // size:u64 XXH3-64:u64, bytes of R_Serialize (version 3, "B"); count:length of references that only it uses
              // {kind: tag of a reference object, for kHooked its content}*, then their content in the same order.
              // The bytes hold references as persistent names, the index in decimal.
  kCount
};

inline constexpr std::uint8_t kHasAttributes = 0x80;
static_assert(static_cast<unsigned>(Tag::kCount) <= kHasAttributes);

inline constexpr std::uint8_t kStringMark = 0xF8;  // shortest mark; ASCII strings below are shorter than this
enum StringMark : std::uint8_t {
  kStringAscii = kStringMark,
  kStringUtf8,
  kStringLatin1,
  kStringBytes,
  kStringNativeUtf8,  // unmarked in a UTF-8 locale: unmarked in the other one if that is UTF-8 too, else marked UTF-8
  kStringNative,      // unmarked in a locale without a meaning for bytes above 127 (the C locale)
  kStringNA,
  kStringSame
};

enum AttributeFlag : std::uint8_t { kAttributeObject = 1, kAttributeS4 = 2 };  // R's bits of the same names

enum class AttributeName : std::uint8_t { kOther, kNames, kDim, kDimNames, kClass, kLevels, kRowNames, kTsp, kCount };

enum EnvironmentFlag : std::uint8_t { kEnvLocked = 1, kEnvHashed = 2 };
enum BindingFlag : std::uint8_t {
  kBindingMissing = 3,
  kBindingLocked = 4,
  kBindingActive = 8
};  // kBindingMissing: two bits

// Nested deeper than this is an R error on both sides, wherever R's own check of the C stack does not come first.
inline constexpr unsigned kMaxDepth = 20000;
// Tables of environments that are far larger than their content shrink to this on the way.
constexpr std::size_t max_table_size(std::size_t bindings) { return 4 * bindings + 64; }

// Backreferences pay off from this many strings.
inline constexpr std::size_t kMinShareStrings = 32;

}  // namespace setsuna::codec
