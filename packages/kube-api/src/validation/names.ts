import type { StatusCause } from '../status-error.ts'
import { invalidValue, tooLongValue } from './causes.ts'

/**
 * Everything that is wrong with a name, as the real server words it (k8s.io/apimachinery/pkg/util/validation of 1.32);
 * empty where it is right. Linear in the length of the name, whatever it holds.
 */
export type NameCheck = (name: string) => string[]

const empty = 'must be non-empty'
const bytesOf = (text: string): number => Buffer.byteLength(text)
/** Says "characters" and counts bytes, as the real server does. */
const tooLong = (lengthMax: number): string => `must be no more than ${lengthMax} characters`

function formatError(rule: string, format: string, ...examples: string[]): string {
  const shown = examples.map((example, i) => `${i === 0 ? '' : ' or '}'${example}', `).join('')
  return `${rule} (${shown === '' ? '' : `e.g. ${shown}`}regex used for validation is '${format}')`
}

/** `value` consists of what `foreign` does not match, and neither begins nor ends with what `edge` matches. */
const consistsOf = (value: string, foreign: RegExp, edge: RegExp): boolean =>
  value !== '' && !foreign.test(value) && !edge.test(value.charAt(0)) && !edge.test(value.charAt(value.length - 1))

const labelLengthMax = 63
const subdomainLengthMax = 253

const dns1123LabelFormat = '[a-z0-9]([-a-z0-9]*[a-z0-9])?'
const dns1123SubdomainFormat = `${dns1123LabelFormat}(\\.${dns1123LabelFormat})*`

const isDns1123Label = (value: string): boolean => consistsOf(value, /[^-a-z0-9]/, /-/)
const isDns1123Subdomain = (value: string): boolean => value.split('.').every(isDns1123Label)

/** Of a Namespace, a container, a port's name in a Service (RFC 1123). */
export const dns1123LabelErrors: NameCheck = name => {
  const errors = bytesOf(name) > labelLengthMax ? [tooLong(labelLengthMax)] : []
  if (isDns1123Label(name)) return errors
  errors.push(isDns1123Subdomain(name) ? 'must not contain dots' : formatError(
    'a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \'-\', and must start and end with an '
    + 'alphanumeric character', dns1123LabelFormat, 'my-name', '123-abc'))
  return errors
}

/** Of most objects (RFC 1123). */
export const dns1123SubdomainErrors: NameCheck = name => {
  const errors = bytesOf(name) > subdomainLengthMax ? [tooLong(subdomainLengthMax)] : []
  if (!isDns1123Subdomain(name)) {
    errors.push(formatError('a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \'-\' or \'.\', '
      + 'and must start and end with an alphanumeric character', dns1123SubdomainFormat, 'example.com'))
  }
  return errors
}

/** Of a Service; of a CustomResourceDefinition's plural and singular (RFC 1035). */
export const dns1035LabelErrors: NameCheck = name => {
  const errors = bytesOf(name) > labelLengthMax ? [tooLong(labelLengthMax)] : []
  if (!isDns1123Label(name) || /^[0-9]/.test(name)) {
    errors.push(formatError('a DNS-1035 label must consist of lower case alphanumeric characters or \'-\', start with an '
      + 'alphabetic character, and end with an alphanumeric character', '[a-z]([-a-z0-9]*[a-z0-9])?', 'my-name', 'abc-123'))
  }
  return errors
}

const qualifiedNameFormat = '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'
const qualifiedNameError = formatError(
  'must consist of alphanumeric characters, \'-\', \'_\' or \'.\', and must start and end with an alphanumeric character',
  qualifiedNameFormat, 'MyName', 'my.name', '123-abc')

const isQualifiedPart = (value: string): boolean => consistsOf(value, /[^-A-Za-z0-9_.]/, /[-_.]/)

/** Of a label's key, an annotation's (in lower case), a finalizer, a condition's type: `name` or `prefix.example/name`. */
export const qualifiedNameErrors: NameCheck = value => {
  const parts = value.split('/', 3)
  if (parts.length === 3) {
    return [`a qualified name ${qualifiedNameError} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`]
  }
  const [prefix, name] = parts.length === 2 ? [parts[0]!, parts[1]!] : [undefined, parts[0]!]
  const errors: string[] = []
  if (prefix === '') errors.push(`prefix part ${empty}`)
  else if (prefix !== undefined) errors.push(...dns1123SubdomainErrors(prefix).map(error => `prefix part ${error}`))
  if (name === '') errors.push(`name part ${empty}`)
  else if (bytesOf(name) > labelLengthMax) errors.push(`name part ${tooLong(labelLengthMax)}`)
  if (!isQualifiedPart(name)) errors.push(`name part ${qualifiedNameError}`)
  return errors
}

export const labelValueErrors: NameCheck = value => {
  const errors = bytesOf(value) > labelLengthMax ? [tooLong(labelLengthMax)] : []
  if (value !== '' && !isQualifiedPart(value)) {
    errors.push(formatError('a valid label must be an empty string or consist of alphanumeric characters, \'-\', \'_\' or \'.\', '
      + 'and must start and end with an alphanumeric character', `(${qualifiedNameFormat})?`, 'MyValue', 'my_value', '12345'))
  }
  return errors
}

/** Of a member of a ConfigMap's or a Secret's data: it can become the name of a file, so it must not lead elsewhere. */
export const configMapKeyErrors: NameCheck = key => {
  const errors = bytesOf(key) > subdomainLengthMax ? [tooLong(subdomainLengthMax)] : []
  if (key === '' || /[^-._a-zA-Z0-9]/.test(key)) {
    errors.push(formatError('a valid config key must consist of alphanumeric characters, \'-\', \'_\' or \'.\'',
      '[-._a-zA-Z0-9]+', 'key.name', 'KEY_NAME', 'key-name'))
  }
  if (key === '.' || key === '..') errors.push(`must not be '${key}'`)
  else if (key.startsWith('..')) errors.push('must not start with \'..\'')
  return errors
}

/** Printable ASCII other than `=`: the rule from 1.32 on (RelaxedEnvironmentVariableValidation). */
export const envVarNameErrors: NameCheck = name => {
  if (name === '') return [`environment variable name ${empty}`]
  return /[^ -<>-~]/.test(name)
    ? ['a valid environment variable name must consist only of printable ASCII characters other than \'=\'']
    : []
}

export const httpHeaderNameErrors: NameCheck = name => name !== '' && !/[^-A-Za-z0-9]/.test(name)
  ? []
  : [formatError('a valid HTTP header must consist of alphanumeric characters or \'-\'', '[-A-Za-z0-9]+', 'X-Header-Name')]

/** Of a container's port (RFC 6335, in lower case). */
export const portNameErrors: NameCheck = name => {
  const errors = bytesOf(name) > 15 ? [tooLong(15)] : []
  if (name === '' || /[^-a-z0-9]/.test(name)) {
    errors.push('must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)')
  }
  if (!/[a-z]/.test(name)) errors.push('must contain at least one letter (a-z)')
  if (name.includes('--')) errors.push('must not contain consecutive hyphens')
  if (name.startsWith('-') || name.endsWith('-')) errors.push('must not begin or end with a hyphen')
  return errors
}

export const rangeErrors = (value: number, least: number, most: number): string[] =>
  value >= least && value <= most ? [] : [`must be between ${least} and ${most}, inclusive`]

export const portNumberErrors = (port: number): string[] => rangeErrors(port, 1, 65_535)
/** Of a user's or a group's id. */
export const unixIdErrors = (id: number): string[] => rangeErrors(id, 0, 2_147_483_647)

/**
 * The check of `metadata.generateName` that belongs to the check of a kind's names: a dash at the end is right there,
 * since more follows.
 */
export const asGenerateName = (check: NameCheck): NameCheck =>
  prefix => check(prefix.length > 1 && prefix.endsWith('-') ? `${prefix.slice(0, -2)}a` : prefix)

/** Bytes of all keys and values of an object's annotations together. */
export const annotationBytesMax = 256 * 1024

/** `metadata.labels`, in the order of its keys. */
export function labelCauses(labels: Readonly<Record<string, string>>, field: string): StatusCause[] {
  return Object.keys(labels).toSorted().flatMap(key => [
    ...qualifiedNameErrors(key).map(error => invalidValue(field, key, error)),
    ...labelValueErrors(labels[key]!).map(error => invalidValue(field, labels[key]!, error))
  ])
}

/** `metadata.annotations`, in the order of its keys. */
export function annotationCauses(annotations: Readonly<Record<string, string>>, field: string): StatusCause[] {
  const keys = Object.keys(annotations).toSorted()
  const causes = keys.flatMap(key => qualifiedNameErrors(key.toLowerCase()).map(error => invalidValue(field, key, error)))
  const bytes = keys.reduce((sum, key) => sum + bytesOf(key) + bytesOf(annotations[key]!), 0)
  if (bytes > annotationBytesMax) causes.push(tooLongValue(field, annotationBytesMax))
  return causes
}

const standardFinalizers: ReadonlySet<string> = new Set(['kubernetes', 'orphan', 'foregroundDeletion'])

/** `metadata.finalizers` of an object of any kind. */
export const finalizerCauses = (finalizers: readonly string[], field: string): StatusCause[] =>
  finalizers.flatMap(name => qualifiedNameErrors(name).map(error => invalidValue(field, name, error)))

/** What built-in kinds ask of their finalizers beyond `finalizerCauses`; listed after those of all other metadata. */
export const builtInFinalizerCauses = (finalizers: readonly string[], field: string): StatusCause[] =>
  finalizers.flatMap((name, i) => name.includes('/') || standardFinalizers.has(name)
    ? []
    : [invalidValue(`${field}[${i}]`, name, 'name is neither a standard finalizer name nor is it fully qualified')])
