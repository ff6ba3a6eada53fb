import { parseDurationMs } from '@holdfast/runtime'
import { askCloudJson, cloudOption, cloudUrl } from '../cloud-client.ts'
import { defineCommand, nodeOption, outputForm, outputOption, usage } from '../command.ts'

export const tokenCreate = defineCommand({
  name: 'token create',
  summary: 'make a token that lets a machine join as a node',
  details: 'The token is shown this once, alone on standard output. It holds the fingerprint of the cloud\'s CA, so that\n' +
    'the machine that joins knows whom it speaks to.',
  options: {
    node: { value: 'NODE', summary: 'Only a node of this name may use it.' },
    ttl: { value: 'DURATION', summary: 'How long it is good for, such as 30m or 7d. Default: cloudcore\'s.' },
    uses: { value: 'N', summary: 'How many nodes may join with it. Default: cloudcore\'s.' },
    ...cloudOption,
    ...outputOption
  },
  async run(values, host) {
    const form = outputForm(values.output)
    const cloud = cloudUrl(values.cloud, host.environment)
    const { uses, ttl } = values
    const node = nodeOption(values.node)
    if (uses !== undefined && !/^[1-9]\d{0,8}$/.test(uses)) {
      throw usage(`--uses "${uses}": expected a whole number from 1`)
    }
    const ttlMs = ttl === undefined ? undefined : parseDurationMs(ttl)
    if (ttl !== undefined && (ttlMs === undefined || ttlMs < 1000)) {
      throw usage(`--ttl "${ttl}": expected a duration such as 30m, 12h or 7d`)
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
