import { isIP, isIPv4, isIPv6 } from 'node:net'
import { parseTimestamp } from '../kinds/timestamps.ts'

const isDate = (text: string): boolean => /^\d{4}-\d\d-\d\d$/.test(text) && parseTimestamp(`${text}T00:00:00Z`) !== undefined

function isCidr(text: string): boolean {
  const [address = '', bits = '', more] = text.split('/', 3)
  const version = isIP(address)
  return more === undefined && version !== 0 && /^(0|[1-9]\d{0,2})$/.test(bits) && Number(bits) <= (version === 4 ? 32 : 128)
}

const isBase64 = (text: string): boolean => /^[A-Za-z0-9+/\r\n]*={0,2}$/.test(text) && text.replaceAll(/[\r\n]/g, '').length % 4 === 0

const isHostname = (text: string): boolean => text.length > 0 && text.length <= 255
  && text.split('.').every(label => /^[A-Za-z0-9_-]{1,63}$/.test(label) && !label.startsWith('-') && !label.endsWith('-'))

const isEmail = (text: string): boolean => text.length <= 320 && /^[^\s@<>"]{1,64}@[^\s@<>"]+$/.test(text)

const isUuid = (version: string): ((text: string) => boolean) => {
  const expression = new RegExp(`^[0-9a-f]{8}-?[0-9a-f]{4}-?${version}[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$`, 'i')
  return text => expression.test(text)
}

const isDuration = (text: string): boolean =>
  text.length <= 128 && (/^[+-]?(0|((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))+)$/.test(text)
    || /^\d+ ?(nanosecond|microsecond|millisecond|second|minute|hour|day|week)s?$/i.test(text))

/**
 * Formats that texts are checked for; the others that a schema may name are accepted and mean nothing, as on the real server
 * (apiextensions-apiserver, pkg/apiserver/validation/formats.go).
 */
export const textFormats: Readonly<Record<string, (text: string) => boolean>> = {
  'bsonobjectid': text => /^[0-9a-f]{24}$/i.test(text),
  'uri': text => URL.canParse(text),
  'email': isEmail,
  'hostname': isHostname,
  'ipv4': isIPv4,
  'ipv6': isIPv6,
  'cidr': isCidr,
  'mac': text => /^[0-9a-f]{2}([:-])([0-9a-f]{2}\1){4}[0-9a-f]{2}$/i.test(text) || /^([0-9a-f]{4}\.){2}[0-9a-f]{4}$/i.test(text),
  'uuid': isUuid('[0-9a-f]'),
  'uuid3': isUuid('3'),
  'uuid4': isUuid('4'),
  'uuid5': isUuid('5'),
  'byte': isBase64,
  'date': isDate,
  'duration': isDuration,
  'date-time': text => parseTimestamp(text) !== undefined,
  'datetime': text => parseTimestamp(text) !== undefined
}

/** Formats of numbers: what fits in them. */
export const numberFormats: Readonly<Record<string, (value: number) => boolean>> = {
  int32: value => value >= -(2 ** 31) && value < 2 ** 31,
  int64: value => value >= -(2 ** 63) && value < 2 ** 63,
  float: () => true,
  double: () => true
}
