import { isUtf8 } from 'node:buffer'
import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { parseArgs } from 'node:util'
import { z } from 'zod'
import { HoldfastError, describeError } from './errors.ts'
import { settingTypes, type SettingType, type TextRules, textOf } from './units.ts'
import { readYaml } from './yaml.ts'

/** A program's configuration: a `section` of settings, each described, bounded, with a default or `.optional()`. */
export type ConfigSchema = z.ZodType<object, unknown>

/** What a program works with: the schema's output, frozen in depth. */
export type ConfigOf<Schema extends ConfigSchema> = DeepReadonly<z.output<Schema>>

export type DeepReadonly<T> = T extends object ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> } : T

/** Settings that belong together; a key that is not among them is a problem. */
export function section<const Shape extends z.core.$ZodShape>(shape: Shape) {
  return z.strictObject(shape).prefault({} as never)
}

/**
 * Settings that come once per name. The configuration is merged into `defaults` name by name, and `name: null` takes
 * one of the defaults away.
 */
export function mapOf<Value extends z.ZodType>(
  name: TextRules, value: Value, defaults: Readonly<Record<string, z.input<Value>>>
) {
  return z.record(textOf(name) as unknown as z.ZodType<string, string>, value).prefault(defaults as never)
}

/** Settings in an order. A list in the configuration replaces `defaults` as a whole. */
export function listOf<Element extends z.ZodType>(
  element: Element, bounds: { readonly lengthMax: number }, defaults: readonly z.input<Element>[]
) {
  const length = `at most ${bounds.lengthMax} entries`
  return z.array(element).max(bounds.lengthMax)
    .register(settingTypes, { type: 'list', expected: `a list of ${length}`, bounds: length })
    .prefault(defaults as never)
}

/** The schema as a tree that can be walked beside a configuration. */
type SettingNode = { readonly description: string } & (
  | { readonly kind: 'section', readonly children: ReadonlyMap<string, SettingNode> }
  | { readonly kind: 'map', readonly name: SettingType, readonly value: SettingNode, readonly fallback: Fallback }
  | { readonly kind: 'list', readonly about: SettingType, readonly element: SettingNode, readonly fallback: Fallback }
  | { readonly kind: 'setting', readonly about: SettingType, readonly fallback: Fallback }
)

type Fallback =
  | { readonly kind: 'required' }
  | { readonly kind: 'none' }
  | { readonly kind: 'value', readonly value: unknown }

const unnamedType: SettingType = { type: 'value', expected: 'another value', bounds: '' }

function nodeOf(schema: z.core.$ZodType, description = '', fallback: Fallback = { kind: 'required' }): SettingNode {
  const said = description === '' ? z.globalRegistry.get(schema)?.description ?? '' : description
  const { def } = (schema as z.core.$ZodTypes)._zod
  switch (def.type) {
    case 'prefault':
    case 'default':
      return nodeOf(def.innerType, said, { kind: 'value', value: def.defaultValue })
    case 'optional':
      return nodeOf(def.innerType, said, { kind: 'none' })
    case 'object':
      return {
        kind: 'section', description: said,
        children: new Map(Object.entries(def.shape).map(([key, child]) => [key, nodeOf(child)]))
      }
    case 'record':
      return {
        kind: 'map', description: said,
        name: settingTypes.get(def.keyType) ?? unnamedType, value: nodeOf(def.valueType), fallback
      }
    case 'array':
      return {
        kind: 'list', description: said, fallback,
        about: settingTypes.get(schema) ?? unnamedType, element: nodeOf(def.element)
      }
    default:
      return { kind: 'setting', description: said, about: settingTypes.get(schema) ?? unnamedType, fallback }
  }
}

/** One line of the reference page. */
export interface SettingLine {
  /** Dotted path; `<name>` stands for a map's names, `<n>` for a list's positions. */
  readonly path: string
  readonly type: string
  /** As a configuration file would hold it; `required`, or `none` where it may be absent. */
  readonly default: string
  readonly bounds: string
  readonly description: string
}

/** Every setting of a schema, in the order of the schema. */
export function describeSettings(schema: ConfigSchema): SettingLine[] {
  const lines: SettingLine[] = []
  const visit = (node: SettingNode, path: string): void => {
    switch (node.kind) {
      case 'section':
        for (const [key, child] of node.children) visit(child, path === '' ? key : `${path}.${key}`)
        return
      case 'map':
        lines.push({
          path, type: 'map', default: shownDefault(node.fallback), bounds: `each name ${node.name.expected}`,
          description: node.description
        })
        return visit(node.value, `${path}.<name>`)
      case 'list':
        lines.push({
          path, type: 'list', default: shownDefault(node.fallback), bounds: node.about.bounds,
          description: node.description
        })
        return visit(node.element, `${path}.<n>`)
      case 'setting': {
        const { fallback, about, description } = node
        lines.push({ path, type: about.type, default: shownDefault(fallback), bounds: about.bounds, description })
      }
    }
  }
  visit(nodeOf(schema), '')
  return lines
}

/** A map's names, a list's values where they are short, or the value itself. */
function shownDefault(fallback: Fallback): string {
  if (fallback.kind !== 'value') return fallback.kind
  const { value } = fallback
  if (!Array.isArray(value)) return isMap(value) ? Object.keys(value).join(', ') : String(value)
  return value.every(entry => typeof entry === 'string') ? value.join(', ') : `${value.length} entries`
}

/** A configuration as a file would hold it: sizes and durations with their units. */
function asWritten(node: SettingNode, value: unknown): unknown {
  if (value === undefined || value === null) return undefined
  switch (node.kind) {
    case 'section': return mapValues(value, (child, key) => asWritten(node.children.get(key)!, child))
    case 'map': return mapValues(value, child => asWritten(node.value, child))
    case 'list': return (value as unknown[]).map(child => asWritten(node.element, child))
    case 'setting': return node.about.format === undefined ? value : node.about.format(value as never)
  }
}

function mapValues(value: object, change: (child: unknown, key: string) => unknown): Record<string, unknown> {
  return Object.fromEntries(Object.entries(value)
    .map(([key, child]): [string, unknown] => [key, change(child, key)])
    .filter(([, child]) => child !== undefined))
}

export interface ConfigFile {
  /** As it was given; problems name its last part. */
  readonly path: string
  /** YAML. */
  readonly text: string
}

export interface ConfigSources {
  readonly file?: ConfigFile
  /** `path=value`, applied in order after the file. Values are YAML. */
  readonly sets?: readonly string[]
}

interface Problem { readonly place: string, readonly what: string }

/**
 * The configuration in effect: the schema's defaults, then the file, then the sets. Frozen in depth.
 * Rejects with `CONFIG_INVALID`, whose message has one line for each problem: place, value, what is expected there.
 */
export async function loadConfig<Schema extends ConfigSchema>(
  schema: Schema, sources: ConfigSources
): Promise<ConfigOf<Schema>> {
  const root = nodeOf(schema)
  const fileName = sources.file === undefined ? 'configuration' : basename(sources.file.path)
  const problems: Problem[] = []
  let input = asWritten(root, schema.parse({}))
  if (sources.file !== undefined) {
    const read = await readYaml(sources.file.text)
    for (const what of read.problems) problems.push({ place: `${fileName}${what.place}`, what: what.what })
    if (read.value !== null && !isMap(read.value) && read.problems.length === 0) {
      problems.push({ place: fileName, what: `expected settings, each as "name: value", got ${shown(read.value)}` })
    }
    if (isMap(read.value)) input = merged(root, input, read.value)
  }
  const setPaths: string[] = []
  for (const set of sources.sets ?? []) {
    const parsed = await parseSet(set)
    if ('problem' in parsed) {
      problems.push({ place: `--set ${set}`, what: parsed.problem })
      continue
    }
    setPaths.push(parsed.path.join('.'))
    const outcome = withSet(root, input, parsed.path, parsed.value)
    if ('problem' in outcome) problems.push({ place: `--set ${parsed.path.join('.')}`, what: outcome.problem })
    else input = outcome.value
  }
  const result = schema.safeParse(input)
  if (!result.success) {
    for (const issue of result.error.issues) {
      for (const problem of explained(root, input, issue)) {
        const fromSet = setPaths.some(path => path === problem.path || problem.path.startsWith(`${path}.`))
        const where = fromSet ? `--set ${problem.path}` : [fileName, problem.path].filter(Boolean).join(': ')
        problems.push({ place: where, what: problem.what })
      }
    }
  }
  if (problems.length > 0 || !result.success) {
    throw new HoldfastError('CONFIG_INVALID', problems.map(({ place, what }) => `${place}: ${what}`).join('\n'))
  }
  return deepFrozen(result.data) as ConfigOf<Schema>
}

/** The configuration in effect as YAML; `loadConfig` gives the same configuration for it. */
export async function printConfig<Schema extends ConfigSchema>(
  schema: Schema, config: ConfigOf<Schema>
): Promise<string> {
  const { stringify } = await import('yaml')
  const root = nodeOf(schema)
  return stringify(withAbsences(root, asWritten(root, schema.parse({})), asWritten(root, config)))
}

/** Names of the default maps that a configuration lacks, written as null: without that they would come back. */
function withAbsences(node: SettingNode, defaults: unknown, written: unknown): unknown {
  if (!isMap(defaults) || !isMap(written)) return written
  if (node.kind === 'section') {
    return mapValues(written, (child, key) => withAbsences(node.children.get(key)!, defaults[key], child))
  }
  if (node.kind !== 'map') return written
  const absent = Object.keys(defaults).filter(name => !Object.hasOwn(written, name))
  return { ...written, ...Object.fromEntries(absent.map(name => [name, null])) }
}

type ParsedSet = { readonly path: readonly string[], readonly value: unknown } | { readonly problem: string }

async function parseSet(set: string): Promise<ParsedSet> {
  const equals = set.indexOf('=')
  const path = set.slice(0, Math.max(equals, 0)).split('.')
  if (equals < 1 || path.includes('')) return { problem: 'expected path=value, such as mqtt.port=1883' }
  const source = set.slice(equals + 1)
  const plain = parsePlainScalar(source)
  if (plain !== undefined) return { path, value: plain }
  const read = await readYaml(source)
  return read.problems.length > 0 ? { problem: read.problems[0]!.what } : { path, value: read.value }
}

/** The scalars that need no YAML parser, which costs a megabyte of memory; undefined for all else. */
function parsePlainScalar(source: string): unknown {
  if (source === '' || source === 'null') return null
  if (source === 'true' || source === 'false') return source === 'true'
  if (/^-?(0|[1-9]\d*)(\.\d+)?$/.test(source)) return Number(source)
  return /^[A-Za-z0-9/+$][A-Za-z0-9/+$._-]*$/.test(source) && !/^[0-9+.]+/.test(source) || /^\d+[A-Za-z]+$/.test(source)
    ? source : undefined
}

const isMap = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** `change` over `base`. Sections and maps merge key by key, all else is replaced; null goes back to the default. */
function merged(node: SettingNode, base: unknown, change: unknown): unknown {
  if (change === null && node.kind !== 'setting') return base
  if (node.kind !== 'section' && node.kind !== 'map') return change
  if (!isMap(change)) return change
  const entries = new Map(isMap(base) ? Object.entries(base) : [])
  for (const [key, value] of Object.entries(change)) {
    const child = childOf(node, key)
    if (value === null && (child === undefined || node.kind === 'map' || child.kind === 'setting')) entries.delete(key)
    else entries.set(key, child === undefined ? value : merged(child, entries.get(key), value))
  }
  return Object.fromEntries(entries)
}

function childOf(node: SettingNode | undefined, key: string): SettingNode | undefined {
  switch (node?.kind) {
    case 'section': return node.children.get(key)
    case 'map': return node.value
    case 'list': return /^\d+$/.test(key) ? node.element : undefined
    default: return undefined
  }
}

type Outcome = { readonly value: unknown } | { readonly problem: string }

/** `base` with one value replaced. A list takes positions up to its length, which appends. */
function withSet(node: SettingNode | undefined, base: unknown, path: readonly string[], value: unknown): Outcome {
  const [key, ...rest] = path
  if (key === undefined) return { value: node === undefined ? value : merged(node, base, value) }
  if (node?.kind === 'setting') return { problem: `${JSON.stringify(key)} is below a single value` }
  if (node?.kind === 'list') {
    const list = Array.isArray(base) ? base as unknown[] : []
    if (!/^\d+$/.test(key) || Number(key) > list.length) {
      return { problem: `expected a position from 0 to ${list.length}, got ${JSON.stringify(key)}` }
    }
    const inner = withSet(node.element, list[Number(key)], rest, value)
    return 'problem' in inner ? inner : { value: list.toSpliced(Number(key), 1, inner.value) }
  }
  const child = childOf(node, key)
  const entries = new Map(isMap(base) ? Object.entries(base) : [])
  if (rest.length === 0 && value === null && (node?.kind === 'map' || child?.kind === 'setting')) {
    entries.delete(key)
    return { value: Object.fromEntries(entries) }
  }
  const inner = withSet(child, entries.get(key), rest, value)
  if ('problem' in inner) return inner
  entries.set(key, inner.value)
  return { value: Object.fromEntries(entries) }
}

interface PlacedProblem { readonly path: string, readonly what: string }

function explained(root: SettingNode, input: unknown, issue: z.core.$ZodIssue): PlacedProblem[] {
  let node: SettingNode | undefined = root
  let value = input
  for (const key of issue.path) {
    node = childOf(node, String(key))
    value = (value as Record<PropertyKey, unknown> | undefined)?.[key]
  }
  const path = issue.path.join('.')
  if (issue.code === 'unrecognized_keys') {
    const known = node?.kind === 'section' ? [...node.children.keys()] : []
    return issue.keys.map(key => ({ path: [path, key].filter(Boolean).join('.'), what: unknownKey(key, known) }))
  }
  if (issue.code === 'invalid_key') {
    const above = nodeAt(root, issue.path.slice(0, -1))
    const expected = above?.kind === 'map' ? above.name.expected : 'another name'
    return [{ path, what: `expected ${expected} as the name, got ${shown(issue.path.at(-1))}` }]
  }
  if (issue.code === 'custom' && issue.params?.['settingType'] !== true) return [{ path, what: issue.message }]
  return [{ path, what: `expected ${expectedAt(node)}, got ${shown(value)}` }]
}

function nodeAt(root: SettingNode, path: readonly PropertyKey[]): SettingNode | undefined {
  return path.reduce<SettingNode | undefined>((node, key) => childOf(node, String(key)), root)
}

function expectedAt(node: SettingNode | undefined): string {
  switch (node?.kind) {
    case 'section': return `settings (${[...node.children.keys()].join(', ')})`
    case 'map': return 'settings by name'
    case 'list':
    case 'setting': return node.about.expected
    default: return 'another value'
  }
}

function unknownKey(key: string, known: readonly string[]): string {
  const near = nearest(key, known)
  const hint = near === undefined ? `known here: ${known.join(', ')}` : `did you mean ${JSON.stringify(near)}?`
  return `unknown key ${JSON.stringify(key)}; ${hint}`
}

/** The candidate with the fewest edits from `word`, if that is less than half of it. */
function nearest(word: string, candidates: readonly string[]): string | undefined {
  const ranked = candidates
    .map(candidate => ({ candidate, edits: editDistance(word.toLowerCase(), candidate.toLowerCase()) }))
    .toSorted((a, b) => a.edits - b.edits)
  const best = ranked[0]
  return best !== undefined && best.edits <= Math.max(1, word.length / 2) ? best.candidate : undefined
}

/** Levenshtein distance. Keys longer than 64 characters are compared by their start. */
function editDistance(a: string, b: string): number {
  const [from, to] = [a.slice(0, 64), b.slice(0, 64)]
  let row = Array.from({ length: to.length + 1 }, (_, i) => i)
  for (let i = 1; i <= from.length; i++) {
    const next = [i]
    for (let j = 1; j <= to.length; j++) {
      const replace = row[j - 1]! + (from[i - 1] === to[j - 1] ? 0 : 1)
      next.push(Math.min(replace, row[j]! + 1, next[j - 1]! + 1))
    }
    row = next
  }
  return row[to.length]!
}

function shown(value: unknown): string {
  if (value === undefined || value === null) return 'nothing'
  const written = JSON.stringify(value)
  return written.length <= 80 ? written : `${written.slice(0, 77)}...`
}

function deepFrozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    Object.values(value).forEach(deepFrozen)
    Object.freeze(value)
  }
  return value
}

/** What a program's command line, help and reference page are made from. */
export interface ProgramSpec<Schema extends ConfigSchema> {
  readonly name: string
  /** One sentence. */
  readonly summary: string
  readonly version: string
  readonly schema: Schema
}

/**
 * The command line of a daemon: `--config FILE`, `--set path=value`, `--print-config`, `--help`, `--version`.
 * Resolves with the configuration, or with undefined where `print` has been given all that was asked for.
 * Rejects with `USAGE`, `CONFIG_UNREADABLE` or `CONFIG_INVALID`.
 */
export async function configure<Schema extends ConfigSchema>(
  spec: ProgramSpec<Schema>, args: readonly string[], print: (text: string) => void
): Promise<ConfigOf<Schema> | undefined> {
  const values = readArguments(spec.name, args)
  if (values.help) {
    print(helpText(spec))
    return undefined
  }
  if (values.version) {
    print(`${spec.name} ${spec.version}\n`)
    return undefined
  }
  const file = values.config === undefined ? undefined : await readConfigFile(values.config)
  const config = await loadConfig(spec.schema, { ...(file && { file }), sets: values.set })
  if (!values.printConfig) return config
  print(await printConfig(spec.schema, config))
  return undefined
}

const daemonOptions = {
  'config': { type: 'string' },
  'set': { type: 'string', multiple: true },
  'print-config': { type: 'boolean' },
  'help': { type: 'boolean', short: 'h' },
  'version': { type: 'boolean' }
} as const

interface DaemonArguments { config?: string, readonly set: string[], printConfig: boolean, help: boolean, version: boolean }

/** Throws `USAGE`, in the words of the command line. */
function readArguments(name: string, args: readonly string[]): DaemonArguments {
  const { tokens } = parseArgs({ args: [...args], options: daemonOptions, strict: false, tokens: true, allowPositionals: true })
  const refuse = (what: string): never => { throw new HoldfastError('USAGE', `${name}: ${what}; see ${name} --help`) }
  const read: DaemonArguments = { set: [], printConfig: false, help: false, version: false }
  for (const token of tokens) {
    if (token.kind === 'positional') refuse(`takes options only, got ${JSON.stringify(token.value)}`)
    if (token.kind !== 'option') continue
    if (!Object.hasOwn(daemonOptions, token.name)) {
      const near = nearest(token.name, Object.keys(daemonOptions))
      refuse(`unknown option ${token.rawName}` + (near === undefined ? '' : `, did you mean --${near}?`))
    }
    const option = token.name as keyof typeof daemonOptions
    const { value, inlineValue } = token
    if (option !== 'config' && option !== 'set') {
      if (value !== undefined) refuse(`--${option} takes no value, got ${JSON.stringify(value)}`)
      read[option === 'print-config' ? 'printConfig' : option] = true
      continue
    }
    if (value === undefined || value === '' || (inlineValue !== true && value.startsWith('-'))) {
      return refuse(`--${option} needs a value: --${option} ${option === 'config' ? 'FILE' : 'path=value'}`)
    }
    if (option === 'set') read.set.push(value)
    else read.config = value
  }
  return read
}

async function readConfigFile(path: string): Promise<ConfigFile> {
  let content: Buffer
  try {
    content = await readFile(path)
  } catch (error) {
    throw new HoldfastError('CONFIG_UNREADABLE', `--config ${path}: ${describeError(error)}`, { cause: error })
  }
  if (!isUtf8(content) || content.includes(0)) {
    throw new HoldfastError('CONFIG_UNREADABLE', `--config ${path}: expected YAML, which is text in UTF-8; this is not`)
  }
  return { path, text: content.toString('utf8') }
}

/** What `--help` prints. */
export function helpText<Schema extends ConfigSchema>(spec: ProgramSpec<Schema>): string {
  const settings = describeSettings(spec.schema).map(line => {
    const bounds = line.bounds === '' ? '' : `; ${line.bounds}`
    return `  ${line.path}\n      ${line.description}\n      ${line.type}${bounds}; default ${line.default}\n`
  })
  return `${spec.name}: ${spec.summary}

usage: ${spec.name} [--config FILE] [--set path=value]... [--print-config] [--help] [--version]

  --config FILE       read settings from a YAML file
  --set path=value    change one setting, after the file; may be repeated
  --print-config      print the configuration in effect as YAML, and stop
  --help, -h          print this
  --version           print the version

settings:
${settings.join('')}`
}
