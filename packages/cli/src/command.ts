import { parseArgs } from 'node:util'
import { HoldfastError, nodeNameRule, parseNodeName, type Clock } from '@holdfast/runtime'

/** What a command may use of the process. */
export interface CommandHost {
  readonly environment: Readonly<Record<string, string | undefined>>
  /** The folder that relative paths begin at. */
  readonly folder: string
  /** The Node.js that runs this, for what a command starts. */
  readonly nodePath: string
  /** Aborts at the first SIGINT, SIGTERM or SIGHUP: finish, close, return. */
  readonly shutdown: AbortSignal
  readonly clock: Clock
  /** How long ago an RFC 3339 timestamp was, in milliseconds. */
  ageMs(timestamp: string): number
  /** Runs when the process exits, also by a fault that nobody caught; must not wait for anything. */
  onExit(task: () => void): void
  /** Standard output, for what was asked for; resolves when more may follow. */
  write(text: string): Promise<void>
  /** Standard error, for what a person should know beside it; a newline is added. */
  say(text: string): void
}

/** An option of a command, by its name without the dashes. */
export interface OptionSpec {
  /** What stands for its value in the help text; a flag has none. */
  readonly value?: string
  /** The value may be left out, which gives ''; then it is written `--edge=URL`, or is the next word where that is a URL. */
  readonly optional?: true
  readonly short?: string
  readonly required?: true
  readonly summary: string
}

type OptionTable = Readonly<Record<string, OptionSpec>>

/** Text for an option with a value, undefined where it was not given; true or false for a flag. */
export type OptionValues<Table extends OptionTable> = {
  readonly [Name in keyof Table]: Table[Name] extends { readonly value: string }
    ? Table[Name] extends { readonly required: true } ? string : string | undefined
    : boolean
}

interface CommandText {
  /** As it is typed, without `holdfast`. */
  readonly name: string
  /** One sentence without a full stop. */
  readonly summary: string
  /** Further lines of the help text. */
  readonly details?: string
  /** Words beside the options; without this there are none. */
  readonly operands?: OperandSpec
}

/** What a command takes beside its options. */
export interface OperandSpec {
  /** As the help text shows them, such as `DEVICE PROPERTY=VALUE…`. */
  readonly shown: string
  readonly min: number
  readonly max: number
}

export interface Command extends CommandText {
  readonly options: OptionTable
  /** Resolves with the exit code. Rejects with HoldfastError, `USAGE` for what the command line has wrong. */
  run(values: Values, host: CommandHost, operands: readonly string[]): Promise<number>
}

/** A command whose options have types. */
export function defineCommand<const Table extends OptionTable>(spec: CommandText & {
  readonly options: Table
  run(values: OptionValues<Table>, host: CommandHost, operands: readonly string[]): Promise<number>
}): Command {
  return { ...spec, run: (values, host, operands) => spec.run(values as OptionValues<Table>, host, operands) }
}

/** `-o`, of every command that shows something. */
export const outputOption = {
  output: { value: 'table|json', short: 'o', summary: 'Tables for people (the default) or JSON for programs.' }
} as const

export type OutputForm = 'table' | 'json'

/** The value of `outputOption`. Throws `USAGE`. */
export function outputForm(text: string | undefined): OutputForm {
  const forms = ['table', 'json'] as const
  const form = forms.find(known => known === (text ?? 'table'))
  if (form === undefined) throw usage(`--output: expected table or json, got "${text}"${suggestion(text!, forms)}`)
  return form
}

/** `--node` as it was given. Throws `USAGE` where it is no node's name. */
export function nodeOption(text: string | undefined): string | undefined {
  if (text !== undefined && parseNodeName(text) === undefined) throw usage(`--node "${text}": expected ${nodeNameRule}`)
  return text
}

/** A command line that cannot be run; the message says why and what would be right. */
export const usage = (message: string): HoldfastError => new HoldfastError('USAGE', message)

type Values = Readonly<Record<string, string | boolean | undefined>>

/** What the command line asks for. */
export type Invocation =
  | { readonly kind: 'run', readonly command: Command, readonly values: Values, readonly operands: readonly string[] }
  | { readonly kind: 'help', readonly command?: Command }
  | { readonly kind: 'version' }

/** Reads a command line. Pure. Throws `USAGE` with one sentence that names the nearest known word. */
export function parseCommandLine(args: readonly string[], commands: readonly Command[]): Invocation {
  const firstOption = args.findIndex(arg => arg.startsWith('-'))
  const words = firstOption === -1 ? args : args.slice(0, firstOption)
  const command = commands.find(({ name }) => startsWith(words, name.split(' ')))
  if (command !== undefined) return parseOptions(args.slice(command.name.split(' ').length), command)
  if (args.some(arg => arg === '--help' || arg === '-h') || args.length === 0) return { kind: 'help' }
  if (words.length === 0 && args[0] === '--version') return { kind: 'version' }
  const names = commands.map(({ name }) => name)
  const list = `one of ${names.join(', ')}; see holdfast --help`
  if (words.length === 0) throw usage(`expected a command before "${args[0]}": ${list}`)
  const begun = names.filter(name => name.split(' ')[0] === words[0])
  if (begun.length > 0 && words.length === 1) {
    throw usage(`"${words[0]}" is half a command: did you mean "${begun[0]}"?`)
  }
  const typed = words.slice(0, 2).join(' ')
  const near = nearest(typed, names) ?? nearest(words[0]!, names)
  throw usage(near === undefined
    ? `unknown command "${typed}": expected ${list}`
    : `unknown command "${typed}": did you mean "${near}"?`)
}

const startsWith = (words: readonly string[], start: readonly string[]): boolean =>
  start.every((word, i) => words[i] === word)

function parseOptions(args: readonly string[], command: Command): Invocation {
  const { options, name, operands: words } = command
  const { tokens } = parseArgs({
    args: [...args], strict: false, tokens: true, allowPositionals: true,
    options: {
      help: { type: 'boolean', short: 'h' },
      ...mapEntries(options, ({ value, optional, short }) => ({
        type: value === undefined || optional ? 'boolean' as const : 'string' as const, ...short !== undefined && { short }
      }))
    }
  })
  const values: Record<string, string | boolean | undefined> =
    mapEntries(options, ({ value }) => value === undefined ? false : undefined)
  const operands: string[] = []
  for (const [i, token] of tokens.entries()) {
    if (token.kind === 'positional') {
      const before = tokens[i - 1]
      const isLeftOut = before?.kind === 'option' && options[before.name]?.optional && values[before.name] === ''
      if (isLeftOut && /^https?:\/\//.test(token.value)) {
        values[before.name] = token.value
        continue
      }
      operands.push(token.value)
      if (words !== undefined && operands.length <= words.max) continue
      throw usage(words !== undefined
        ? `holdfast ${name} takes ${words.shown}, and "${token.value}" is too much; see holdfast ${name} --help`
        : `holdfast ${name} takes options only, got "${token.value}"; see holdfast ${name} --help`)
    }
    if (token.kind !== 'option') continue
    if (token.name === 'help') return { kind: 'help', command }
    const spec = Object.hasOwn(options, token.name) ? options[token.name] : undefined
    if (spec === undefined) {
      const known = [...Object.keys(options), 'help']
      throw usage(`holdfast ${name}: unknown option ${token.rawName}${suggestion(token.name, known, '--')}`)
    }
    if (spec.value === undefined) {
      if (token.value !== undefined) {
        throw usage(`holdfast ${name}: --${token.name} takes no value, got "${token.value}"`)
      }
      values[token.name] = true
    } else if (spec.optional && token.value === undefined) values[token.name] = ''
    else {
      const { value, inlineValue } = token
      if (value === undefined || value === '' || (!inlineValue && value.startsWith('-'))) {
        throw usage(`holdfast ${name}: --${token.name} needs a value: --${token.name} ${spec.value}`)
      }
      values[token.name] = value
    }
  }
  const missing = Object.entries(options)
    .filter(([option, { required }]) => required === true && values[option] === undefined)
  if (missing.length > 0) {
    const list = missing.map(([option, { value }]) => `--${option} ${value}`).join(', ')
    throw usage(`holdfast ${name} needs ${list}; see holdfast ${name} --help`)
  }
  if (words !== undefined && operands.length < words.min) {
    throw usage(`holdfast ${name} needs ${words.shown}; see holdfast ${name} --help`)
  }
  return { kind: 'run', command, values, operands }
}

function mapEntries<T>(options: OptionTable, change: (spec: OptionSpec) => T): Record<string, T> {
  return Object.fromEntries(Object.entries(options).map(([option, spec]) => [option, change(spec)]))
}

function suggestion(word: string, known: readonly string[], prefix = ''): string {
  const near = nearest(word, known)
  return near === undefined
    ? `; there are ${known.map(name => prefix + name).join(', ')}`
    : `; did you mean ${prefix}${near}?`
}

/** The known word with the fewest edits from `word`, if they are at most half of its letters. */
function nearest(word: string, known: readonly string[]): string | undefined {
  const best = known.map(name => ({ name, edits: editDistance(word, name) })).toSorted((a, b) => a.edits - b.edits)[0]
  return best !== undefined && best.edits <= Math.max(1, Math.min(word.length, 64) / 2) ? best.name : undefined
}

/** Levenshtein distance; of long words the first 64 characters. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, i) => i)
  for (let i = 1; i <= Math.min(from.length, 64); i++) {
    const next = [i]
    for (let j = 1; j <= to.length; j++) {
      next.push(Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (from[i - 1] === to[j - 1] ? 0 : 1)))
    }
    row = next
  }
  return row[to.length]!
}

/** What `holdfast --help` prints. */
export function helpOverview(commands: readonly Command[]): string {
  const width = Math.max(...commands.map(({ name }) => name.length))
  return `holdfast: run, join and look into Holdfast

usage: holdfast COMMAND [options]

${commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}\n`).join('')}
  holdfast COMMAND --help explains a command. The daemons are cloudcore and edgecore, each with --help.
`
}

/** What `holdfast COMMAND --help` prints. */
export function helpCommand({ name, summary, details, options, operands }: Command): string {
  const entries = Object.entries(options).map(([option, spec]) =>
    ({ ...spec, shown: `--${option}${valueShown(spec)}` }))
  const usageLine = entries.map(({ shown, required }) => required === true ? shown : `[${shown}]`)
  const heads = entries.map(({ shown, short }) => short === undefined ? shown : `${shown}, -${short}`)
  const width = Math.max(...heads.map(head => head.length), '--help, -h'.length)
  const line = (head: string, text: string): string => `  ${head.padEnd(width)}  ${text}\n`
  return `holdfast ${name}: ${summary}

usage: ${wrapped(['holdfast', name, ...operands === undefined ? [] : [operands.shown], ...usageLine], 100)}

${entries.map((entry, i) => line(heads[i]!, entry.summary)).join('')}${line('--help, -h', 'Print this.')}${
    details === undefined ? '' : `\n${details}\n`}`
}

function valueShown({ value, optional }: OptionSpec): string {
  return value === undefined ? '' : optional ? `[=${value}]` : ` ${value}`
}

function wrapped(words: readonly string[], width: number): string {
  let line = ''
  const lines: string[] = []
  for (const word of words) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = '       ' + word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line].join('\n')
}
