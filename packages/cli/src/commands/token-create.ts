import { formatDurationMs, parseDurationMs } from '@holdfast/runtime'
import { askCloudJson, cloudOption, cloudUrl } from '../cloud-client.ts'
import { defineCommand, nodeOption, outputForm, outputOption, usage } from '../command.ts'

/** As cloudcore has them: docs/limits.md, joinTokenLifeSeconds and joinTokenUses. */
const ttlMaxMs = 366 * 86_400_000
const usesMax = 10_000

export const tokenCreate = defineCommand({
  name: 'token create',
  summary: 'make a token that lets a machine join as a node',
  details: 'The token is shown this once, alone on standard output. It holds the fingerprint of the cloud\'s CA, so that\n' +
    'the machine that joins knows whom it speaks to.',
  options: {
    node: { value: 'NODE', summary: 'Only a node of this name may use it.' },
    ttl: { value: 'DURATION', summary: 'How long it is good for, such as 30m or 7d. Default: 24h.' },
    uses: { value: 'N', summary: 'How many nodes may join with it. Default: 1.' },
    ...cloudOption,
    ...outputOption
  },
  async run(values, host) {
    const form = outputForm(values.output)
    const cloud = cloudUrl(values.cloud, host.environment)
    const { uses, ttl } = values
    const node = nodeOption(values.node)
    if (uses !== undefined && (!/^[1-9]\d{0,8}$/.test(uses) || Number(uses) > usesMax)) {
      throw usage(`--uses "${uses}": expected a whole number from 1 to ${usesMax}`)
    }
    const ttlMs = ttl === undefined ? undefined : parseDurationMs(ttl)
    if (ttl !== undefined && (ttlMs === undefined || ttlMs < 1000 || ttlMs > ttlMaxMs)) {
      throw usage(`--ttl "${ttl}": expected a duration such as 30m, 12h or 7d, from 1s to ${formatDurationMs(ttlMaxMs)}`)
    }
    const created = await askCloudJson(cloud, {
      method: 'POST',
      path: '/v1/tokens',
      body: {
        ...node !== undefined && { node },
        ...uses !== undefined && { uses: Number(uses) },
        ...ttlMs !== undefined && { ttlSeconds: Math.floor(ttlMs / 1000) }
      }
    }, host.shutdown) as { readonly token: string }
    await host.write(form === 'json' ? JSON.stringify(created, null, 2) + '\n' : `${created.token}\n`)
    return 0
  }
})
