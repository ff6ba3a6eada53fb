import { wait } from '@holdfast/runtime'
import type { Clock, Service } from '@holdfast/runtime'
import type { Dmi } from './dmi/index.ts'
import type { Mappers } from './mappers/index.ts'
import type { DeviceTwin, DeviceTwins, NodeTwins } from './twins/index.ts'
import { twinsLimits as limits } from './twins/limits.ts'

export interface DeviceTroublesComponents {
  readonly twins: Pick<DeviceTwins, 'all' | 'get'> & Pick<NodeTwins, 'tellTrouble'>
  readonly mappers: Pick<Mappers, 'problemsOf' | 'serves'>
  readonly dmi: Pick<Dmi, 'protocols' | 'troubleOf' | 'url'>
  readonly clock: Clock
}

/** Looked at in one turn of the event loop. */
const devicesPerTurn = 500
const problemsShown = 3

/** What keeps devices from being served, for who is not on the node (TWN-41). */
export class DeviceTroubles implements Service {
  readonly name = 'device troubles'
  readonly #components: DeviceTroublesComponents

  constructor(components: DeviceTroublesComponents) { this.#components = components }

  /** What keeps a device from being served now; undefined: nothing does, as far as the node knows. */
  of(device: DeviceTwin): string | undefined {
    const text = this.#textOf(device)
    const { value: max } = limits.troubleLength
    return text !== undefined && text.length > max ? `${text.slice(0, max - 1)}…`.toWellFormed() : text?.toWellFormed()
  }

  /** Looks at all devices every ten seconds: what has only just come, as at a start, may be gone by then. */
  async run(signal: AbortSignal): Promise<void> {
    const { twins, clock } = this.#components
    while (!signal.aborted) {
      await wait(clock, limits.troubleIntervalMs.value, signal).catch(() => {})
      const ids = Array.from(twins.all(), ({ id }) => id)
      for (let i = 0; i < ids.length && !signal.aborted; i += devicesPerTurn) {
        for (const id of ids.slice(i, i + devicesPerTurn)) {
          const device = twins.get(id)
          if (device !== undefined) twins.tellTrouble(id, this.of(device))
        }
        await new Promise<void>(resolve => { clock.soon(resolve) })
      }
    }
  }

  #textOf(device: DeviceTwin): string | undefined {
    const { mappers, dmi } = this.#components
    const problems = mappers.problemsOf(device)
    const protocol = protocolNameOf(device)
    const isMapped = dmi.protocols.includes(protocol)
    // One that a built-in mapper can do nothing for is another mapper's, where there is one.
    if (problems !== undefined && (mappers.serves(device) || !isMapped)) return problemsText(problems)
    if (isMapped) return dmi.troubleOf(device)
    const { reported, state } = device.twin
    // It may well speak for itself, on its topics or over HTTP.
    if (protocol === '' || reported.size > 0 || state !== undefined) return undefined
    const other = dmi.protocols.find(each => each.toLowerCase() === protocol.toLowerCase())
    const why = other !== undefined ? `; one has for ${JSON.stringify(other)}, and case matters`
      : dmi.url === undefined ? ', where dmi.mode is off' : ''
    return `no mapper for protocol ${JSON.stringify(protocol)} has registered on the node${why}`
  }
}

function problemsText(problems: NonNullable<ReturnType<Mappers['problemsOf']>>): string | undefined {
  if (problems.length === 0) return undefined
  const shown = problems.slice(0, problemsShown).map(({ property, reason }) => property === undefined ? reason : `${property}: ${reason}`)
  const more = problems.length - shown.length
  return shown.join('; ') + (more > 0 ? `; and ${more} more` : '')
}

/** As the Device has it. */
function protocolNameOf({ device }: DeviceTwin): string {
  const spec = device['spec'] as { readonly protocol?: { readonly protocolName?: unknown } | null } | null | undefined
  const name = spec?.protocol?.protocolName
  return typeof name === 'string' ? name : ''
}
